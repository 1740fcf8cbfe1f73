"""`flask keys` and `flask secrets`: keys are shown once, and rotation names secrets without showing them."""

import hashlib

import pytest
from sqlalchemy import text

from auth import api_keys
from encryption import SecretCipher
from tests.callers import Bank
from tests.factories import KEY_ID, OLD_SECRET, SECRET, SECRETS_KEY


def test_key_is_shown_once_and_can_be_revoked(run, context):
    token = run("keys", "create", "anna", "--scope", "organizations:read").stdout.strip()

    assert api_keys.authorize(token, "organizations:read").name == "anna"
    assert token not in run("keys", "list").output
    assert run("keys", "create", "anna", "--all").exit_code == 1
    assert run("keys", "create", "ben").exit_code == 2
    assert run("keys", "create", "ben", "--all", "--scope", "organizations:read").exit_code == 2
    assert run("keys", "create", " ", "--all").exit_code == 2
    assert run("keys", "revoke", "anna").output == "Revoked.\n"
    with pytest.raises(api_keys.KeyRefused):
        api_keys.authorize(token, "organizations:read")
    assert run("keys", "revoke", "anna").exit_code == 1


def test_rotation_counts_payments_by_every_name_that_a_secret_has_had(run, bank, make_app, database):
    changed = make_app(SECRETS_KEYS=f"{'another-key-' * 4},{SECRETS_KEY}")
    for sender in (bank, bank, Bank(changed.test_client())):
        sender.send()
    with database.unguarded() as connection:
        plain = hashlib.sha256(b"kopeck key id:" + SECRET.encode()).hexdigest()[:12]
        query = "UPDATE payments SET key_id = :plain WHERE id = (SELECT min(id) FROM (SELECT id FROM payments) AS p)"
        if database.family == "postgresql":
            query = "UPDATE payments SET key_id = :plain WHERE id = (SELECT id FROM payments ORDER BY id LIMIT 1)"
        connection.execute(text(query), {"plain": plain})

    output = changed.test_cli_runner().invoke(args=["secrets", "rotate"]).output

    assert ": 3 payments, the last 2026-03-01 12:00:00Z" in output
    assert f"key_id {KEY_ID}" not in output


def test_rotation_guidance_names_keys_but_no_current_secret(run, bank):
    bank.send()
    output = run("secrets", "rotate").output

    assert f"key_id {KEY_ID}: 1 payments, the last 2026-03-01 12:00:00Z" in output
    assert f"key_id {SecretCipher([SECRETS_KEY]).key_id(OLD_SECRET)}: unused" in output
    assert SECRET not in output
    assert run("secrets", "rotate", "--bank", "nobody").exit_code == 1
    assert "BANK_WEBHOOK_SECRETS=NEW,OLD" in output
