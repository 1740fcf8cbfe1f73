"""Every import points one way: a module may use those of its own line's left side and of the lines above."""

import ast
import re

import pytest

from config import ROOT

LAYERS = (
    ("limits", "config", "errors", "rules"),
    ("shapes", "vault", "wakeups", "context", "signing", "addresses", "transport", "delivery", "schemas", "intake"),
    ("database", "models"),
    ("ledger", "incidents", "inbox", "groupcommit", "events", "outbox"),
    ("banks",),
    ("services", "organizations", "endpoints", "replays", "keys", "statements", "audit"),
    ("courier", "jobs", "webhooks"),
    ("api", "worker", "tasks", "cli"),
    ("app",),
)
"""From the bottom up. Within a line only packages look at their own modules."""

STRANGERS = {
    *("services", "organizations", "endpoints", "replays", "keys", "statements", "audit"),
    *("webhooks", "api", "tasks"),
}
"""Doors and use cases, which do not know their neighbours on the same line."""

NEVER = {
    "shapes": ("sqlalchemy", "flask", "database"),
    "schemas": ("sqlalchemy", "flask", "database"),
    "rules": ("sqlalchemy", "flask", "marshmallow"),
    "signing": ("sqlalchemy", "flask", "json"),
    "vault": ("sqlalchemy", "flask"),
    "delivery": ("sqlalchemy", "flask", "database", "models", "banks"),
    "ledger": ("flask",),
    "banks": ("sqlalchemy", "flask"),
    "services": ("flask", "requests"),
    "endpoints": ("flask", "requests"),
    "replays": ("flask", "requests"),
    "outbox": ("flask",),
    "webhooks": ("sqlalchemy",),
}
ASIDE = {"sandbox": {"signing", "transport", "addresses", "errors"}}
"""What is an app of its own beside ours, which nothing of ours knows, and the little that it takes from us."""

SOCKETS = ("requests", "urllib3", "socket", "urllib", "httpx")
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(path for path in ROOT.glob("*.py") if path.stem in RANK) + [
    path for package in ("api", "banks", "cli") for path in sorted((ROOT / package).glob("*.py"))
]


def module_of(path) -> str:
    return path.stem if path.parent == ROOT else path.parent.name


def imported(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: imports are absolute"
            names.add(node.module.split(".")[0])
    return names


def test_every_module_has_its_line():
    assert {path.stem for path in ROOT.glob("*.py")} - {"gunicorn.conf", "serving"} <= set(RANK)


def test_nothing_in_the_app_knows_by_what_it_is_served():
    assert not [path for path in FILES if {"gevent", "serving"} & imported(path)]
    assert {name for name in imported(ROOT / "serving.py") if name in RANK} == {"limits"}


@pytest.mark.parametrize("package", ASIDE)
def test_what_stands_aside_takes_little_and_is_known_to_nobody(package):
    own = sorted((ROOT / package).rglob("*.py"))  # none where it was deleted
    packages = ("api", "banks", "cli", "bench", "migrations")
    ours = [*ROOT.glob("*.py"), *(path for name in packages for path in (ROOT / name).rglob("*.py"))]

    assert set().union(*map(imported, own)) & {*RANK, *packages, "serving", "tests"} <= ASIDE[package]
    assert not [path for path in ours if package in imported(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_looks_down(path):
    own = module_of(path)
    ours = {name for name in imported(path) if name in RANK and name != own}
    # A line may be read from left to right, except that doors and use cases do not know their neighbours.
    beside = set() if own in STRANGERS else set(LAYERS[RANK[own]][: LAYERS[RANK[own]].index(own)])

    assert {name for name in ours if RANK[name] >= RANK[own] and name not in beside} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_uses_what_is_not_its_business(path):
    own = module_of(path)

    assert imported(path).isdisjoint(NEVER.get(own, ()))
    if own != "transport":
        assert imported(path).isdisjoint(SOCKETS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_doors_never_write(path):
    if module_of(path) not in ("webhooks", "api", "worker", "tasks", "cli"):
        return
    tree = ast.parse(path.read_text())
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    assert called.isdisjoint({"commit", "flush", "add", "add_all", "merge", "delete"})
    assert names.isdisjoint({"transaction", "insert", "update", "delete", "insert_absent"})


def written_names(path) -> set[str]:
    """Return what a module writes by name: keywords of .values(), keys of dictionaries, attributes assigned to."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            names |= {keyword.arg for keyword in node.keywords}
        elif isinstance(node, ast.Dict):
            names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_only_the_ledger_changes_a_balance():
    assert {path.name for path in FILES if "balance" in written_names(path)} == {"ledger.py"}
    # An event and a delivery carry the version of the move that they tell of.
    assert {path.name for path in FILES if "version" in written_names(path)} == {"ledger.py", "events.py", "outbox.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_writes_sql_by_hand(path):
    constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]

    assert [text for text in constants if re.match(r"(UPDATE|DELETE|INSERT)\s", str(text))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path):
    text = path.read_text()
    tree = ast.parse(text)

    assert text.count("\n") <= 500
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_only_config_reads_the_environment():
    readers = {path.name for path in FILES if re.search(r"os\.(environ|getenv)|dotenv", path.read_text())}

    assert readers == {"config.py"}
