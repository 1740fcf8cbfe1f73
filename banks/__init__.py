"""The registry: every bank that may announce money, by the name in its webhook path."""

from banks.base import Bank
from banks.plain import PlainBank
from errors import BankUnknown

BANKS: dict[str, Bank] = {bank.name: bank for bank in (PlainBank(),)}


def find(name: str) -> Bank:
    """Return the bank of this name; raise BankUnknown."""
    if name not in BANKS:
        raise BankUnknown("No bank of this name is known here; the bare path is the plain bank's.")
    return BANKS[name]
