"""The pages say what is true: settings, commands, routes, errors, and the two READMEs beside each other."""

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
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text()


def first_cells(text: str) -> set[str]:
    """Return what stands in back-ticks in the first column of the tables of a page."""
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


@pytest.mark.parametrize("page", READMES)
def test_readme_lists_exactly_the_settings(page):
    _, _, _, section, *_ = re.split(r"^## ", read(page), flags=re.MULTILINE)

    assert first_cells(section) == settings_in_code()


def commands(group: click.Group, prefix: str = "flask") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        found |= commands(command, path) if isinstance(command, click.Group) else {path: command}
    return found


@pytest.mark.parametrize("page", READMES)
def test_readme_lists_every_command_of_ours(app, page):
    ours = {path for path in commands(app.cli) if path.split()[1] not in ("db", "openapi", "run", "shell", "routes")}
    listed = {cell for cell in first_cells(read(page)) if cell.startswith("flask ")}

    assert listed - {"flask openapi print", "flask db upgrade"} == ours
    assert listed >= {"flask openapi print", "flask db upgrade"}


def test_every_command_of_ours_has_help_with_an_example(app):
    for path, command in commands(app.cli).items():
        if path.split()[1] in ("db", "openapi", "run", "shell", "routes"):
            continue
        assert command.help
        assert command.help.splitlines()[0].endswith((".", ";"))
        assert path in (command.epilog or ""), path


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
            "_(SECONDS|BYTES|CREDITS|CONNECTIONS|TRIES|SENDERS|ROUNDS|ENDPOINTS|WEBHOOKS|EVENTS|DELIVERIES|SECRETS)|^(NESTING|CONNECTIONS|SENDERS|ENDPOINTS)_",
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_dependencies_are_pinned_and_each_has_its_reason():
    lines = [
        line
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in read(name).splitlines()
        if line.strip()
    ]
    for line in lines:
        assert line.startswith(("#", "-r ")) or re.fullmatch(r"[A-Za-z0-9._-]+(\[\w+\])?==[\w.]+", line), line
    direct = read("requirements.txt").split("\n\n")[0] + read("requirements-dev.txt")
    reasons = read("docs/decisions.md").lower()
    for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[\w+\])?==", direct, re.MULTILINE):
        assert name.lower().removeprefix("types-") in reasons, name
