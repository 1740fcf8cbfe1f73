"""What is encrypted comes back with the right keys only, and nothing of it shows."""

import hashlib
import hmac

import pytest

from encryption import NAMING, PURPOSE, SecretCipher
from errors import SecretUnreadable

NEW, OLD, OTHER = "n" * 32, "o" * 64, "x" * 32
TEXT = "whsec_c2VjcmV0 ключ"
HERE, THERE = "endpoints.secrets/1", "endpoints.secrets/2"
ENCRYPTED = "a1.Wi7-Djha2STL_NZO58qMGDUhOIpgl4K-ZmaOBTNFHKYytRVzXPPikrV7"
"""`whsec_dGVzdA==`, encrypted with NEW for HERE."""
UNBOUND = "gAAAAABrAOJ-nsLG-b-PHbLUJLrp8Or1CTumXWD41iRu_yxFRJpAaCY-7HqQ01bQHdBbH8FXa_iLSKiCsDxjdhrZoURkx9TS_w=="
"""The same, as an earlier version stored it."""


def test_what_is_encrypted_can_be_decrypted():
    cipher = SecretCipher([NEW])

    assert cipher.decrypt(cipher.encrypt(TEXT, bound_to=HERE), bound_to=HERE) == TEXT
    assert cipher.decrypt(cipher.encrypt("", bound_to=HERE), bound_to=HERE) == ""


def test_encrypted_text_shows_nothing_and_never_repeats():
    cipher = SecretCipher([NEW])
    encrypted = {cipher.encrypt(TEXT, bound_to=HERE) for _ in range(5)}

    assert len(encrypted) == 5
    assert all(text.isascii() and "whsec" not in text for text in encrypted)


def test_every_key_decrypts_and_the_newest_encrypts():
    before = SecretCipher([OLD]).encrypt(TEXT, bound_to=HERE)
    during = SecretCipher([NEW, OLD])

    assert during.decrypt(before, bound_to=HERE) == TEXT
    assert SecretCipher([NEW]).decrypt(during.encrypt(TEXT, bound_to=HERE), bound_to=HERE) == TEXT
    with pytest.raises(SecretUnreadable):
        SecretCipher([OLD]).decrypt(during.encrypt(TEXT, bound_to=HERE), bound_to=HERE)


def test_key_that_was_taken_out_is_an_error_that_names_the_setting():
    with pytest.raises(SecretUnreadable, match="SECRETS_KEYS") as caught:
        SecretCipher([NEW, OTHER]).decrypt(SecretCipher([OLD]).encrypt(TEXT, bound_to=HERE), bound_to=HERE)

    assert caught.value.__cause__ is None
    assert not any(secret in str(caught.value) for secret in (NEW, OLD, OTHER, TEXT))


def test_each_changed_character_is_noticed():
    cipher = SecretCipher([NEW])
    encrypted = cipher.encrypt(TEXT, bound_to=HERE)
    # The last character before the padding may carry bits that belong to no byte.
    for place in range(len(encrypted.rstrip("=")) - 1):
        changed = encrypted[:place] + ("A" if encrypted[place] != "A" else "B") + encrypted[place + 1 :]
        with pytest.raises(SecretUnreadable):
            cipher.decrypt(changed, bound_to=HERE)


@pytest.mark.parametrize(
    "text",
    ["", "A", "whsec_plain", "gAAAAA==", UNBOUND, "ключ", "\ud800", "A" * 1000, "a1.", "a1.AAAA", "a1.ключ", "a1.!"],
)
def test_what_was_never_encrypted_is_refused(text):
    with pytest.raises(SecretUnreadable, match="SECRETS_KEYS"):
        SecretCipher([NEW]).decrypt(text, bound_to=HERE)


@pytest.mark.parametrize(
    "place", [THERE, "", "endpoints.secrets/11", "endpoints.url/1", "Endpoints.secrets/1", HERE + "\0"]
)
def test_what_was_copied_to_another_place_cannot_be_read(place):
    for cipher in (SecretCipher([NEW]), SecretCipher([OTHER, NEW])):
        with pytest.raises(SecretUnreadable, match="another row"):
            cipher.decrypt(SecretCipher([NEW]).encrypt(TEXT, bound_to=HERE), bound_to=place)


def test_what_an_earlier_version_stored_is_read_only_when_asked_for():
    assert SecretCipher([OTHER, NEW]).decrypt_unbound(UNBOUND) == "whsec_dGVzdA=="
    for cipher, text in ((SecretCipher([OLD]), UNBOUND), (SecretCipher([NEW]), ENCRYPTED)):
        with pytest.raises(SecretUnreadable):
            cipher.decrypt_unbound(text)


@pytest.mark.parametrize("keys", [[], [""], ["n" * 31], [NEW, "short"]], ids=str)
def test_cipher_without_good_keys_is_not_made(keys):
    with pytest.raises(ValueError, match="SECRETS_KEYS") as caught:
        SecretCipher(keys)

    assert "short" not in str(caught.value).split()


def test_keys_that_begin_alike_are_different_keys():
    with pytest.raises(SecretUnreadable):
        SecretCipher([NEW + "b"]).decrypt(SecretCipher([NEW + "a"]).encrypt(TEXT, bound_to=HERE), bound_to=HERE)


def test_what_was_encrypted_by_this_version_is_readable_for_ever():
    """Whoever changes how keys are derived would lose every stored secret."""
    assert SecretCipher([NEW]).decrypt(ENCRYPTED, bound_to=HERE) == "whsec_dGVzdA=="


def test_repr_shows_nothing():
    assert NEW not in f"{SecretCipher([NEW])!r} {SecretCipher([NEW])} {vars(SecretCipher([NEW]))}"


def test_key_id_names_a_secret_and_tells_secrets_apart():
    cipher = SecretCipher([NEW])

    assert cipher.key_id("one") == SecretCipher([NEW, OLD]).key_id("one")
    assert cipher.key_id("one") != cipher.key_id("two")
    assert "one" not in cipher.key_id("one")
    assert len(cipher.key_id("one")) == 12


def test_key_id_confirms_no_guess_without_the_key():
    """Neither a plain hash, nor one under what everybody can read here."""
    secret, name = "a guess", SecretCipher([NEW]).key_id("a guess")

    assert name != SecretCipher([OTHER]).key_id(secret)
    for known in (b"", b"kopeck key id:", PURPOSE, NAMING):
        assert not hashlib.sha256(known + secret.encode()).hexdigest().startswith(name)
        assert not hmac.digest(known, secret.encode(), "sha256").hex().startswith(name)


def test_names_of_older_keys_are_known_as_long_as_the_keys_are():
    before, after = SecretCipher([OLD]), SecretCipher([NEW, OLD])

    assert after.key_ids("one") == (SecretCipher([NEW]).key_id("one"), before.key_id("one"))
