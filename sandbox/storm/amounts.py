"""What a column or a type makes of an amount that it cannot hold: cut, capped, wrapped, rounded.

The storm recognises a shop's fault by the amount that came out.
"""

import struct
from collections.abc import Callable, Iterator, Mapping

from sandbox.storm.findings import Fault

INT64_MAX, INT32_MAX = 2**63 - 1, 2**31 - 1
CAPS = (INT32_MAX, 2**32 - 1, INT64_MAX, *(10**digits - 1 for digits in (8, 9, 10, 11, 12, 13, 14, 15, 16, 18)))
"""The largest numbers of usual columns: integers, and decimals by their digits."""

CUT_TO_DIGITS = (8, 9, 10, 11, 12)
MANTISSAS = (53, 24)
"""The bits of a double and of a single float."""

Change = Callable[[int], int]


def is_beyond(amount: int) -> bool:
    """Return whether no signed 64-bit column holds an amount."""
    return not -INT64_MAX - 1 <= amount <= INT64_MAX


def capped(amount: int) -> Iterator[int]:
    """Return an amount as columns that store their largest number instead would hold it."""
    yield from (cap for cap in CAPS if amount > cap)


def wrapped(amount: int) -> Iterator[int]:
    """Return the low bits of an amount, with a sign and without."""
    for bits in (64, 32):
        yield _signed(amount, bits)
        yield amount % 2**bits


def fault_of(changed: Mapping[int, int]) -> Fault:
    """Return the fault that made other amounts of amounts: one that explains all of them."""
    for fault, change in CHANGES:
        if all(found == change(amount) for amount, found in changed.items()):
            return fault
    return Fault.OTHER_AMOUNT


def balance_fault(due: int, found: int, count: int) -> Fault | None:
    """Return the fault of the column of a balance that should be `due`, after a number of credits."""
    if found in CAPS and due > found:
        return Fault.CAPPED
    if found in wrapped(due):
        return Fault.WRAPPED
    if _is_float_sum(due, found, count):
        return Fault.FLOAT
    return None


def _is_float_sum(due: int, found: int, count: int) -> bool:
    """Return whether a wrong balance is a float: its low bits are empty, and it is wrong by no more than roundings."""
    for mantissa in MANTISSAS:
        low_bits = max(found.bit_length(), due.bit_length()) - mantissa
        if low_bits > 0 and found % (1 << max(found.bit_length() - mantissa, 0)) == 0:
            return abs(found - due) <= (count + 1) << low_bits
    return False


def _signed(amount: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (amount + half) % (1 << bits) - half


def _single(amount: int) -> int:
    single: float = struct.unpack("f", struct.pack("f", amount))[0]
    return int(single)


def _capped_at(cap: int) -> Change:
    return lambda amount: min(amount, cap)


def _cut_to(digits: int) -> Change:
    return lambda amount: int(str(amount)[:digits])


def _last(digits: int) -> Change:
    return lambda amount: amount % 10**digits


CHANGES: tuple[tuple[Fault, Change], ...] = (
    (Fault.FLOAT, lambda amount: int(float(amount))),
    (Fault.FLOAT, _single),
    (Fault.WRAPPED, lambda amount: _signed(amount, 32)),
    (Fault.WRAPPED, lambda amount: amount % 2**32),
    *((Fault.CAPPED, _capped_at(cap)) for cap in CAPS),
    (Fault.ROUNDED, lambda amount: amount // 100 * 100),
    (Fault.ROUNDED, lambda amount: (amount + 50) // 100 * 100),
    (Fault.OTHER_AMOUNT, lambda amount: amount + 1),
    (Fault.OTHER_AMOUNT, lambda amount: amount - 1),
    (Fault.UNIT, lambda amount: amount * 100),
    (Fault.UNIT, lambda amount: amount // 100),
    *((Fault.CUT, _cut_to(digits)) for digits in CUT_TO_DIGITS),
    *((Fault.CUT, _last(digits)) for digits in CUT_TO_DIGITS),
)
"""Each fault with what it makes of an amount; the first one that fits is named."""
