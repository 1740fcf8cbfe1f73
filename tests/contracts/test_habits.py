"""What every module keeps to, whatever its layer: who writes, how long it is, who reads the environment."""

import ast
import re
from pathlib import Path

from config import ROOT
from tests.contracts.test_layers import FILES, each_file, package_of, tree_of


@each_file
def test_doors_never_write(file):
    if package_of(file) not in ("webhooks", "worker", "api", "cli"):
        return
    nodes = list(ast.walk(tree_of(file)))
    called = {node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    names = {node.id for node in nodes if isinstance(node, ast.Name)}

    assert names.isdisjoint({"db", "session", "current_session", "current_engine"})
    assert called.isdisjoint({"commit", "flush", "add_all", "merge", "begin"})
    assert names.isdisjoint({"transaction", "snapshot", "insert", "update", "delete", "insert_absent"})


@each_file
def test_the_shell_prints_through_one_place(file):
    if package_of(file) != "cli" or file.name in ("output.py", "files.py"):
        return
    text = (ROOT / file).read_text()

    assert re.findall(r"\b(?:click\.s?echo|click\.secho|print|sys\.(?:stdout|stderr)\.write)\(", text) == []


def written_names(file: Path) -> set[str]:
    """Return what a module writes by name: keywords of .values(), keys of dictionaries, attributes assigned to."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            names |= {keyword.arg for keyword in node.keywords}
        elif isinstance(node, ast.Dict):
            names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_only_the_ledger_changes_a_balance():
    # An event and a delivery carry the version of the move that they tell of.
    tell_of_it = {"outbox/events.py", "outbox/recording.py"}
    # What is written there is another database, and a note of how far a check has come.
    others = {"ledger/rebuild.py", "ledger/log_audit.py"}

    assert {str(file) for file in FILES if "balance" in written_names(file)} == {"ledger/moves.py", *others}
    assert {str(file) for file in FILES if "version" in written_names(file)} == {
        "ledger/moves.py",
        *others,
        *tell_of_it,
    }


@each_file
def test_nobody_writes_sql_by_hand(file):
    if str(file) == "database/rights.py":
        return  # asks for rights by statements about a table that does not exist
    constants = [node.value for node in ast.walk(tree_of(file)) if isinstance(node, ast.Constant)]

    assert [text for text in constants if re.match(r"(UPDATE|DELETE|INSERT)\s", str(text))] == []


@each_file
def test_modules_are_short_and_say_what_they_are(file):
    tree = tree_of(file)

    assert ast.get_docstring(tree)
    assert (ROOT / file).read_text().count("\n") <= 500
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 40, node.name


def test_one_module_reads_the_environment_and_the_file():
    readers = {str(file) for file in FILES if re.search(r"os\.(environ|getenv)|\bdotenv", (ROOT / file).read_text())}

    assert readers == {"environment.py"}
