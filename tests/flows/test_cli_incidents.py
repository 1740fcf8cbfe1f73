"""`flask incidents`: looked at, resolved and assigned at the shell, by whom the system says."""

import os
import pwd

import pytest

from tests.factories import make_org


def test_incident_is_listed_shown_and_resolved(run, bank):
    bank.push(b'{"operation_id": "\x1b[31mred"}')
    (line,) = run("incidents", "list").output.splitlines()[1:]
    number = line.split()[0]

    shown = run("incidents", "show", number).output
    assert "unusable_body" in shown
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
    assert run("incidents", "resolve", number, "seen").output == "Resolved.\n"
    assert run("incidents", "resolve", number, "seen").exit_code == 1
    assert "seen" in run("incidents", "list", "--state", "resolved").output


def test_incident_is_assigned(run, bank, context, check_ledger):
    make_org("7707083893")
    bank.send(amount=2**63 - 1)
    held = bank.send(amount=7).json["incident_id"]

    result = run("incidents", "assign", str(held), "7707083893")

    assert result.output.startswith("Credited to 7707083893 as payment ")
    check_ledger()


@pytest.mark.parametrize("named", [None, "somebody-else"])
def test_resolver_at_the_shell_is_who_the_system_says_whatever_the_environment_says(
    run, bank, operator, monkeypatch, named
):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, named) if named else monkeypatch.delenv(name, raising=False)
    bank.push(b"{}")
    number = run("incidents", "list").output.splitlines()[1].split()[0]

    assert run("incidents", "resolve", number, "seen").output == "Resolved.\n"
    assert operator.get(f"/incidents/{number}/").json["resolved_by"] == f"shell:{pwd.getpwuid(os.getuid()).pw_name}"
