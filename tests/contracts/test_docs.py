"""The pages say what is true: settings, commands, routes, errors, and the two READMEs side by side."""

import re

import click
import pytest
from flask import Flask
from sqlalchemy import make_url

import errors
import limits
from app import create_app
from config import ROOT, Config
from database.extension import db
from tests.factories import make_config

READMES = ("README.md", "README.ru.md")
README_LINES_MAX = 120
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")])

NOT_OURS = ("db", "openapi", "run", "shell", "routes")
"""The commands of Flask, Flask-Migrate and flask-smorest."""

LISTED_TOO = {"flask db upgrade", "flask db downgrade", "flask openapi print", "flask run"}
"""Those of them that the page names."""

PIN = re.compile(r"[A-Za-z0-9._-]+(\[\w+\])?==[\w.]+(; sys_platform [!=]= \"win32\")?")
"""One version; some packages are for Windows alone, or for every system but Windows."""


def read(name: str) -> str:
    return (ROOT / name).read_text()


def first_cells(text: str) -> set[str]:
    """Return what stands in back-ticks at the beginning of each table row of a page."""
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    app = create_app(make_config(make_url(f"sqlite:///{tmp_path_factory.mktemp('docs') / 'k.db'}")))
    yield app
    with app.app_context():
        db.engine.dispose()


def settings_in_code() -> set[str]:
    """Return the names that Config.from_env() asks for, found by watching it ask."""
    asked = set()

    class Watched(dict[str, str]):
        def get(self, name, default=None):
            asked.add(name)
            return super().get(name, default)

    Config.from_env(Watched(BANK_WEBHOOK_SECRETS="x" * 40, SECRETS_KEYS="x" * 40))
    return asked


def test_env_example_lists_exactly_the_settings_with_a_line_on_each():
    lines = [line for line in read(".env.example").splitlines()[1:] if line]

    assert {line.split("=")[0] for line in lines[1::2]} == settings_in_code()
    assert all(line.startswith("# ") for line in lines[::2])


def test_settings_page_lists_exactly_the_settings():
    assert first_cells(read("docs/settings.md")) == settings_in_code()


def commands(group: click.Group, prefix: str = "flask") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        found |= commands(command, path) if isinstance(command, click.Group) else {path: command}
    return found


def test_commands_page_lists_every_command_of_ours(app):
    ours = {path for path in commands(app.cli) if path.split()[1] not in NOT_OURS}
    cells = first_cells(read("docs/commands.md"))
    listed = {cell for cell in cells if cell.startswith("flask ") and "--app" not in cell}

    assert listed - LISTED_TOO == ours
    assert listed >= LISTED_TOO


def test_commands_page_lists_every_target_of_make():
    listed = {cell for cell in first_cells(read("docs/commands.md")) if cell.startswith("make ")}

    assert listed == {f"make {target}" for target in re.findall(r"^([a-z]+):.*## ", read("Makefile"), re.MULTILINE)}


def test_every_command_of_ours_has_help_with_an_example(app):
    for path, command in commands(app.cli).items():
        if path.split()[1] in NOT_OURS:
            continue
        assert command.help
        assert command.help.splitlines()[0].endswith((".", ";"))
        assert path in (command.epilog or ""), path


def test_no_option_takes_a_secret(app):
    """Whoever lists processes sees options, and shells keep them in their history."""
    options = {option for each in commands(app.cli).values() for param in each.params for option in param.opts}

    assert not [option for option in options if re.search("secret|passw|token|api.?key", option)]


def routes(app: Flask) -> dict[str, str | None]:
    """Return each method and path as the page writes it, with the scope of its view."""
    return {
        f"{method} " + re.sub("<[a-z]+:([a-z_]+)>", r"<\1>", rule.rule): getattr(
            app.view_functions[rule.endpoint], "access", None
        )
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def test_api_page_lists_exactly_the_routes(app):
    listed = {cell for cell in first_cells(read("docs/api.md")) if " /" in cell}

    assert listed == set(routes(app))


def test_api_page_gives_each_route_its_scope(app):
    rows = dict(re.findall(r"^\| `([A-Z]+ /[^`]+)` \| (`?[a-z:]+`?) \|", read("docs/api.md"), re.MULTILINE))
    for route, scope in routes(app).items():
        assert rows[route] in ((f"`{scope}`",) if scope else ("signed", "open"))


def family(error: type[errors.PaymentError] = errors.PaymentError) -> list[type[errors.PaymentError]]:
    """Return every error below one, down to the last."""
    return [below for child in error.__subclasses__() for below in (child, *family(child))]


def test_api_page_lists_exactly_the_errors():
    listed = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", read("docs/api.md"), re.MULTILINE)

    assert {slug: int(status) for slug, status in listed} == {error.slug: error.status for error in family()}


def test_operations_page_lists_exactly_the_limits_as_they_are():
    listed = re.findall(r"^\| `([A-Z_]+)` \| ([0-9.]+) \|", read("docs/operations.md"), re.MULTILINE)

    assert {name: float(value) for name, value in listed} == {
        name: value for name, value in vars(limits).items() if name.isupper()
    }


def test_every_limit_is_named_after_its_unit_and_says_what_it_is():
    names = re.findall(r"^([A-Z_]+) = .*\n\"\"\"", read("limits.py"), re.MULTILINE)

    assert set(names) == {name for name in vars(limits) if name.isupper()}
    assert all(
        re.search(
            "_(SECONDS|BYTES|CHARACTERS|CREDITS|CONNECTIONS|ATTEMPTS|SENDERS|ROUNDS|ENDPOINTS|WEBHOOKS|CALLS|EVENTS|DELIVERIES|SECRETS|LINES)|^(NESTING|CONNECTIONS|SENDERS|ENDPOINTS)_",
            name,
        )
        for name in names
    )


def test_every_error_says_what_it_is():
    slugs = [error.slug for error in family()]

    assert len(slugs) == len(set(slugs))
    assert all(error.__doc__ and error.title for error in family())


def shape(text: str) -> list[str]:
    """Return what two translations of one page must share: the levels of headings, code, commands, links."""
    fenced = re.findall(r"```.*?```", text, re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = [line.split()[0] for line in prose.splitlines() if line.startswith("#")]
    code = [word for word in re.findall(r"`([^`]+)`", prose) if word.isascii()]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if not link.startswith("README")]
    return [*headings, *fenced, *sorted(code), *sorted(links)]


def test_the_two_readmes_say_the_same():
    english, russian = (shape(read(page)) for page in READMES)

    assert english == russian


@pytest.mark.parametrize("page", READMES)
def test_readme_is_short(page):
    assert len(read(page).splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize("page", READMES)
def test_readme_says_where_every_module_is(page):
    listed = set(re.findall(r"`([^`\s]+)`", read(page).rpartition("\n## ")[2]))
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")}

    assert listed >= {path.name for path in ROOT.glob("*.py")} | {f"{folder}/" for folder in folders}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def entries(name: str) -> list[str]:
    """Return the lines of a file of requirements, each with its hashes."""
    lines = read(name).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", "-r "))]


@pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in", "requirements-fast.in"])
def test_dependencies_are_pinned_and_each_has_its_reason(name):
    reasons = read("docs/decisions.md").lower()
    for line in entries(name):
        assert PIN.fullmatch(line), line
        assert re.match("[a-z0-9._-]+", line.lower())[0].removeprefix("types-") in reasons, line


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-fast"])
def test_what_is_installed_is_pinned_to_the_hash_of_every_file(name):
    """pip takes nothing else as soon as one hash is there; `make lock` writes them."""
    installed = {line.split(" ")[0].lower() for line in entries(f"{name}.txt")}

    # What an extra brings along has lines of its own.
    assert installed >= {re.sub(r"\[.*\]|;.*", "", line).strip().lower() for line in entries(f"{name}.in")}
    assert [line for line in entries(f"{name}.txt") if not re.search(" --hash=sha256:[0-9a-f]{64}( |$)", line)] == []
    if name == "requirements-dev":
        assert installed >= {line.split(" ")[0].lower() for line in entries("requirements.txt")}
