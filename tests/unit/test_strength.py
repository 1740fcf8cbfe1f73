"""What a person typed is told from what a generator made."""

import base64
import random
import string
import uuid

import pytest

import strength

TYPED = [
    "changeme-8f3ac901e4d65b7782aa01c4d9e6f3b1",
    "CHANGE_ME_BEFORE_PRODUCTION_4f81a2c97be3",
    "replace-me-8f3ac901e4d65b7782aa01c4d9e6",
    "your-secret-here-8f3ac901e4d65b7782aa01c",
    "put-the-key-here-8f3ac901e4d65b7782aa01c",
    "<insert secret> 8f3ac901e4d65b7782aa01c4",
    "example-8f3ac901e4d65b7782aa01c4d9e6f3b1",
    "12345678901234567890123456789012",
    "98765432109876543210987654321098",
    "74619028375610293847561029384756",
    "20260101202601022026010320260104",
    "0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
    "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "aabbccddeeff00112233445566778899",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "QWERTYuiopASDFGHjklZXCVBNm654321",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9",
    "йцукенгшщзхъфывапролджэячсмитьбю",
    "x" * 64,
    "abc" * 20,
    "deadbeefcafebabedeadbeefcafebabe",
    "7f3a91c47f3a91c47f3a91c47f3a91c4",
    "Passw0rd!Passw0rd!Passw0rd!Passw0rd!",
    "correct-horse-battery-staple-correct",
    "this-is-a-very-secret-webhook-key-2026",
    "KopeckBankWebhookSecretProduction2026!",
    "kopeck_bank_webhook_secrets_production",
    "пароль-от-банка-никому-не-показывать",
    "moyabankovskayatayna2026moyabankovskaya",
    "a-secret-that-is-only-for-tests-0123456789",
    "BANK_WEBHOOK_SECRETS_PRODUCTION_VALUE_1",
]


@pytest.mark.parametrize("secret", TYPED)
def test_what_a_person_typed_is_weak(secret):
    assert strength.is_weak(secret)


def generated(kind: str, seed: int) -> str:
    """Make a secret as a generator would, the same in each run."""
    made = random.Random(f"{kind} {seed}")
    data = made.randbytes(32)
    return {
        "hex of 16 bytes": data[:16].hex(),
        "HEX of 16 bytes": data[:16].hex().upper(),
        "hex of 32 bytes": data.hex(),
        "base64 of 24 bytes": base64.b64encode(data[:24]).decode(),
        "base64 for addresses": base64.urlsafe_b64encode(data).decode(),
        "whsec_": f"whsec_{base64.b64encode(data[:24]).decode()}",
        "letters and digits": "".join(made.choices(string.ascii_letters + string.digits, k=32)),
        "all signs": "".join(made.choices(string.ascii_letters + string.digits + "!#%+:=?@^_~", k=32)),
        "uuid": str(uuid.UUID(bytes=data[:16], version=4)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("hex of 16 bytes", "HEX of 16 bytes", "hex of 32 bytes", "base64 of 24 bytes", "base64 for addresses"),
        *("whsec_", "letters and digits", "all signs", "uuid"),
    ],
)
def test_what_a_generator_made_is_not(kind):
    assert [seed for seed in range(200) if strength.is_weak(generated(kind, seed))] == []


def test_more_of_the_same_adds_next_to_nothing():
    assert strength.bits("7f3a91c4" * 8) < strength.bits("7f3a91c4") + 8
    assert strength.bits("") == 0
