"""When a delivery is tried again, and what counts as an answer."""

import pytest

from outbox import retry

MINUTE, HOUR = 60, 3600


SCHEDULE = [
    (1, 5),  # 5 s
    (2, 300),  # 5 min: 5 * 60
    (3, 1_800),  # 30 min: 30 * 60
    (4, 7_200),  # 2 h: 2 * 3600
    (5, 18_000),  # 5 h: 5 * 3600
    (6, 36_000),  # 10 h: 10 * 3600
    (7, 50_400),  # 14 h: 14 * 3600
    (8, 72_000),  # 20 h: 20 * 3600
    (9, 86_400),  # 24 h: 24 * 3600
    (10, None),  # exhausted: the first attempt and nine more
    (11, None),
]


@pytest.mark.parametrize(("failures", "seconds"), SCHEDULE)
def test_waits_grow_from_seconds_to_a_day_and_end(failures, seconds):
    # In the middle of the draw: 1 + 0.1 * (2 * 0.5 - 1) = 1.
    assert retry.retry_in(failures, jitter=0.5) == seconds


@pytest.mark.parametrize(
    ("failures", "shortest", "longest"),
    [
        (1, 4.5, 5.5),  # 5 s: 5 * 0.9 and 5 * 1.1
        (2, 270, 330),  # 5 min: 300 * 0.9 and 300 * 1.1
        (3, 1_620, 1_980),  # 30 min
        (4, 6_480, 7_920),  # 2 h
        (5, 16_200, 19_800),  # 5 h
        (6, 32_400, 39_600),  # 10 h
        (7, 45_360, 55_440),  # 14 h
        (8, 64_800, 79_200),  # 20 h
        (9, 77_760, 95_040),  # 24 h
    ],
)
def test_jitter_is_a_tenth_in_both_directions(failures, shortest, longest):
    assert retry.retry_in(failures, jitter=0) == pytest.approx(shortest)
    assert retry.retry_in(failures, jitter=1) == pytest.approx(longest)
    assert shortest < retry.retry_in(failures, jitter=0.25) < retry.retry_in(failures, jitter=0.75) < longest


@pytest.mark.parametrize("jitter", [0, 0.5, 1])
def test_exhausted_is_exhausted_whatever_the_jitter(jitter):
    assert retry.retry_in(10, jitter=jitter) is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (0, 5),  # never sooner than the first wait of the schedule
        (4, 5),
        (5, 5),
        (6, 6),
        (120, 120),
        (86_399, 86_399),
        (86_400, 86_400),  # 24 h: 24 * 3600
        (86_401, 86_400),  # never later than that
        (999_999_999, 86_400),
    ],
)
def test_endpoint_that_asks_to_wait_is_obeyed_within_bounds(status, asked, seconds):
    # At every step of the schedule, and without jitter: it was asked for exactly.
    for failures in (1, 5, 9):
        for jitter in (0, 0.5, 1):
            assert retry.retry_in(failures, jitter=jitter, status=status, asked=asked) == seconds


@pytest.mark.parametrize("status", [None, 200, 301, 400, 408, 410, 428, 430, 500, 502, 504])
def test_nobody_else_may_ask_to_wait(status):
    assert retry.retry_in(1, jitter=0.5, status=status, asked=1000) == 5


@pytest.mark.parametrize("status", [429, 503])
def test_endpoint_that_does_not_say_how_long_waits_by_the_schedule(status):
    assert retry.retry_in(2, jitter=0.5, status=status, asked=None) == 5 * MINUTE


@pytest.mark.parametrize("status", [429, 503])
def test_asking_to_wait_brings_no_further_attempt(status):
    assert retry.retry_in(9, jitter=0.5, status=status, asked=10) == 10
    assert retry.retry_in(10, jitter=0.5, status=status, asked=10) is None


def test_whole_schedule_takes_less_than_it_takes_to_disable_an_endpoint():
    # 5 + 300 + 1800 + 7200 + 18000 + 36000 + 50400 + 72000 + 86400 = 272105 s; * 1.1 = 299315.5 s = 83.1 h < 120 h
    longest = sum(retry.retry_in(failures, jitter=1) for failures in range(1, 10))

    assert longest == pytest.approx(299_315.5)
    assert longest < 5 * 24 * HOUR


@pytest.mark.parametrize(
    ("status", "delivered"),
    [
        (None, False),  # nobody answered
        (100, False),
        (199, False),
        (200, True),
        (201, True),
        (202, True),
        (204, True),
        (299, True),
        (300, False),
        (301, False),
        (302, False),
        (304, False),
        (307, False),
        (400, False),
        (404, False),
        (410, False),
        (429, False),
        (500, False),
        (503, False),
        (999, False),
    ],
)
def test_only_a_2xx_means_that_the_event_is_delivered(status, delivered):
    assert retry.is_delivered(status) is delivered
