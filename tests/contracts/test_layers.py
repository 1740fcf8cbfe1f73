"""Every import points one way: a module may use its own package and the layers below it."""

import ast
from pathlib import Path

import pytest

from config import ROOT

LAYERS = (
    ("limits", "rules", "enums", "http_client", "environment", "strength"),
    ("config", "errors", "fields"),
    ("schemas", "signing", "encryption", "strict_json", "database"),
    ("models", "pagination", "context", "banks", "server"),
    ("ledger", "auth"),
    ("outbox",),
    ("services",),
    ("webhooks", "worker"),
    ("api", "cli"),
    ("app",),
)
"""From the bottom up. Within a layer modules may use each other, but not in a circle."""

APART = {"api": {"cli"}, "cli": {"api"}, "webhooks": {"worker"}, "worker": {"webhooks"}, "ledger": {"auth"}}
"""What stands in one layer and has nothing to say to its neighbour."""

NEVER = {
    "errors": ("flask", "sqlalchemy"),
    "fields": ("flask", "sqlalchemy"),
    "schemas": ("flask", "sqlalchemy"),
    "rules": ("flask", "sqlalchemy", "marshmallow"),
    "signing": ("flask", "sqlalchemy", "json"),
    "encryption": ("flask", "sqlalchemy"),
    "strict_json": ("flask", "sqlalchemy"),
    "banks": ("flask", "sqlalchemy"),
    "ledger": ("flask", "context"),
    "services": ("flask", "context"),
    "webhooks": ("sqlalchemy",),
    "api": ("sqlalchemy",),
    "outbox/channels": ("flask", "sqlalchemy"),
}
ASIDE = {"sandbox": {"signing", "http_client", "environment"}}
"""What is an app of its own beside ours, which nothing of ours knows, and the little that it takes from us."""

SOCKETS = {
    *("socket", "socketserver", "asyncio", "http.client", "http.server", "smtplib", "ftplib", "imaplib"),
    *("urllib.request", "urllib3", "requests", "httpx", "aiohttp", "celery", "kombu", "redis", "amqp"),
}
OPENS_SOCKETS = ("http_client/", "database/", "worker/broker.py", "worker/tasks.py", "worker/consumer.py")

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(
    path.relative_to(ROOT)
    for name in RANK
    for path in ([ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else (ROOT / name).rglob("*.py"))
)
each_file = pytest.mark.parametrize("file", FILES, ids=str)


def package_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def tree_of(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def imported(file: Path) -> set[str]:
    """Return every name that a file imports, in functions too: `a.b` as `a` and as `a.b`, `flask_x` as `flask` too."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: imports are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names |= {name.split(".")[0] for name in names}
    return names | {name.split("_")[0] for name in names if name.startswith("flask_")}


def test_every_module_and_package_has_its_layer():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench", "tests", *ASIDE}

    assert {path.stem for path in ROOT.glob("*.py")} - {"gunicorn.conf"} | packages == set(RANK)


@each_file
def test_imports_point_downwards(file):
    own = package_of(file)
    ours = {name for name in imported(file) if name in RANK and name != own}

    assert not {name for name in ours if RANK[name] > RANK[own] or name in APART.get(own, ())}


def test_no_layer_imports_in_a_circle():
    uses = {name: set() for name in RANK}
    for file in FILES:
        uses[package_of(file)] |= {name for name in imported(file) if name in RANK} - {package_of(file)}
    while ends := [name for name, used in uses.items() if not used]:
        for name in ends:
            del uses[name]
        uses = {name: used - set(ends) for name, used in uses.items()}

    assert uses == {}


@each_file
def test_nothing_uses_what_is_not_its_business(file):
    never = {
        name for part, names in NEVER.items() if f"{file.with_suffix('')}/".startswith(f"{part}/") for name in names
    }

    assert imported(file).isdisjoint(never)
    if not str(file).startswith(OPENS_SOCKETS):
        assert imported(file).isdisjoint(SOCKETS)
    if not str(file).startswith("server/"):
        assert imported(file).isdisjoint({"gunicorn", "gevent"})


@pytest.mark.parametrize("package", ASIDE)
def test_what_stands_aside_takes_little_and_is_known_to_nobody(package):
    own = [path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")]  # none where it was deleted
    others = [
        *FILES,
        *(path.relative_to(ROOT) for name in ("bench", "migrations") for path in (ROOT / name).rglob("*.py")),
    ]

    assert set().union(*map(imported, own)) & {*RANK, "bench", "migrations", "tests"} <= ASIDE[package]
    assert not [file for file in others if package in imported(file)]
