"""A second bank beside the plain one, for tests of two sources: its own name and secret, the same format."""

from collections.abc import Iterator
from contextlib import contextmanager

import banks
from banks.plain import PlainBank

SECOND_SECRET = "the-secret-of-the-second-bank-alone-0123456789ab"
SECOND_PATH = "/api/v1/webhook/bank/second/"
SECOND_SETTINGS = {"BANK_WEBHOOK_SECRETS_SECOND": SECOND_SECRET}


class SecondBank(PlainBank):
    """Writes as the plain bank does, and numbers its operations by itself."""

    name = "second"


@contextmanager
def registered() -> Iterator[None]:
    """Have the second bank in the registry; an app that is made meanwhile needs SECOND_SETTINGS."""
    banks.BANKS[SecondBank.name] = SecondBank()
    try:
        yield
    finally:
        del banks.BANKS[SecondBank.name]
