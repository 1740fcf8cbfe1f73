"""The keys of an endpoint: each scheme has its own."""

import signing
from enums import Scheme
from outbox import endpoint_keys


def test_new_keys_have_the_shape_of_their_scheme():
    standard = endpoint_keys.new_key(Scheme.STANDARD)

    assert standard.secret.startswith("whsec_")
    assert standard.private_key.startswith("whsk_")
    assert endpoint_keys.public_key(standard) == signing.public_key(standard.private_key)
    for scheme in (Scheme.X_SIGNATURE, Scheme.ACQUIREMOCK):
        key = endpoint_keys.new_key(scheme)
        assert len(bytes.fromhex(key.secret)) == 32
        assert (key.private_key, key.until, endpoint_keys.public_key(key)) == (None, None, None)
