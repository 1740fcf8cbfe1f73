"""Which events the filter of an endpoint lets through."""

import pytest

import enums


@pytest.mark.parametrize(
    ("event_types", "kind", "listens"),
    [
        ("*", "balance.credited", True),
        ("*", "something.new", True),
        ("* balance.credited", "something.new", True),
        ("balance.credited", "balance.credited", True),
        ("balance.credited something.new", "balance.credited", True),
        ("something.new balance.credited", "balance.credited", True),
        ("balance.credited", "something.new", False),
        ("balance.credited", "balance", False),  # no prefixes
        ("balance", "balance.credited", False),
        ("balance.credited.twice", "balance.credited", False),
        ("", "balance.credited", False),
    ],
)
def test_filter_lets_through_what_it_names(event_types, kind, listens):
    assert enums.listens_to(event_types, kind) is listens
