"""Pure decisions: INN, limits, how money and time are written."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

import rules


@pytest.mark.parametrize(
    "inn", ["7707083893", "7736050003", "1234567894", "2312000000", "500100732259", "123456789047", "231200000004"]
)
def test_checksum_of_a_real_inn_holds(inn):
    assert rules.INN.fullmatch(inn)
    assert rules.checksum_holds(inn)


@pytest.mark.parametrize("inn", ["1234567890", "7743013902", "7707083894", "123456789012", "500100732258"])
def test_checksum_is_advice_only(inn):
    assert rules.INN.fullmatch(inn)
    assert not rules.checksum_holds(inn)


def test_balance_fits_up_to_bigint():
    assert rules.fits(0, 2**63 - 1)
    assert rules.fits(2**63 - 2, 1)
    assert not rules.fits(2**63 - 1, 1)


@pytest.mark.parametrize(
    ("kopecks", "written"),
    [(0, "0.00"), (5, "0.05"), (145000, "1 450.00"), (-145001, "-1 450.01"), (2**63 - 1, "92 233 720 368 547 758.07")],
)
def test_kopecks_are_written_as_roubles(kopecks, written):
    assert rules.roubles(kopecks) == written


def test_moments_are_written_in_utc():
    moscow = timezone(timedelta(hours=3))

    assert rules.rfc3339(datetime(2024, 4, 28, 0, 0, tzinfo=moscow)) == "2024-04-27T21:00:00Z"
    assert rules.rfc3339(datetime(2024, 4, 27, 21, 0, 0, 5, tzinfo=UTC)) == "2024-04-27T21:00:00.000005Z"
