"""What the modules of the sandbox may import, and who may read the environment."""

import ast
from pathlib import Path

import pytest

from sandbox import settings

FOLDER = Path(settings.__file__).parent
SHARED = {"signing", "http_client", "environment"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_sandbox_knows_kopeck_only_over_http(path):
    if "snippets" in path.parts:
        return
    ours = {file.stem for file in settings.ROOT.glob("*.py")} | {"api", "banks", "cli", "bench", "tests"}

    assert imported(path) & ours <= SHARED
    text = path.read_text()
    assert text.count("\n") <= 500
    assert ast.get_docstring(ast.parse(text)) or (path.name == "__init__.py" and not text)


def test_only_settings_read_the_environment():
    readers = {path.name for path in FOLDER.rglob("*.py") if "environment" in imported(path)}

    assert readers == {"settings.py"}
    assert not [path for path in FOLDER.rglob("*.py") if {"dotenv", "os"} & imported(path)]
