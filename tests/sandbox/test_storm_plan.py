"""The plan of a storm is a function of its seed and contains every kind of step."""

import json
import random
from collections import Counter

import pytest
from stdnum.ru import inn as stdnum_inn

from sandbox.storm import bodies
from sandbox.storm.findings import Fault
from sandbox.storm.plan import EXTRAS, HUGE_AMOUNT, VARIANTS, Expect, Kind, Plan, Signed, make_plan
from sandbox.storm.readings import Carried, read_back
from sandbox.storm.sums import Suspect, explain


def a_plan(**overrides: int) -> Plan:
    return make_plan(**{"seed": 7, "operations": 300, "organisations": 8, **overrides})


def moves(plan: Plan) -> list[tuple[object, ...]]:
    return [(step.kind, step.operation, step.manner, step.copies, step.pause_ms, step.after) for step in plan.steps]


def test_the_same_seed_gives_the_same_bytes():
    assert a_plan().encoded() == a_plan().encoded()
    assert [step.body for step in a_plan().steps] == [step.body for step in a_plan().steps]


def test_the_same_seed_gives_the_same_day_in_years_to_come():
    assert make_plan(seed=1, operations=20, organisations=3).digest() == "d2f694b4347e24e8"


def test_another_seed_gives_another_day():
    assert a_plan(seed=8).encoded() != a_plan().encoded()
    assert set(a_plan(seed=8).organisations).isdisjoint(a_plan().organisations)


def test_another_day_is_the_same_again_under_new_ids():
    first, second = a_plan(day=1), a_plan(day=2)

    assert moves(second) == moves(first)
    assert second.organisations == first.organisations
    assert [operation.amount for operation in second.operations] == [operation.amount for operation in first.operations]
    ids = [{operation.id for operation in plan.operations} for plan in (first, second)]
    assert ids[0].isdisjoint(ids[1])
    assert set(first.strangers).isdisjoint(second.strangers)


@pytest.mark.parametrize("operations", [1, 5, 300])
def test_even_a_small_day_has_every_kind_of_trouble(operations):
    kinds = Counter(step.kind for step in a_plan(operations=operations).steps)

    assert set(EXTRAS) <= set(kinds)
    if operations == 300:
        assert set(kinds) == set(Kind)


@pytest.mark.parametrize("operations", [1, 120])
def test_every_day_has_every_body_that_is_wrong(operations):
    details = {(step.kind, step.detail) for step in a_plan(operations=operations).steps}

    assert {(kind, variant) for kind, variants in VARIANTS.items() for variant in variants} <= details


def test_what_must_not_be_credited_is_read_back_from_the_bytes_that_are_sent():
    claims = [step for step in a_plan(operations=500).steps if step.claim is not None]

    assert claims
    assert all(step.claim == read_back(step.body) for step in claims)


def test_every_valid_body_carries_the_facts_of_its_operation():
    plan = a_plan(operations=500)
    for step in plan.steps:
        if step.claim is None:
            operation, carried = plan.operations[step.operation], read_back(step.body)
            assert (carried.operation_ids[0], carried.payers[0]) == (operation.id, operation.inn)
            assert carried.amounts[0] == operation.amount
            facts = (carried.document_number, carried.document_date)
            assert facts == (operation.document_number, operation.document_date)


AMOUNTS = {
    "0": (),
    "-5": (-5, 5),
    "5.5": (6, 5, 55, 550),
    '"145000"': (145000,),
    '" 145 000,0 "': (145000, 1450000, 14500000),
    '"many"': (),
    "1e3": (1000, 1, 100000),
    "NaN": (),
    "true": (1,),
    "null": (),
    "[7]": (7,),
    '{"value": 7}': (7,),
    str(2**63 + 5): (2**63 + 5, 2**63 - 1, -(2**63) + 5, 5),
}


@pytest.mark.parametrize("written", AMOUNTS)
def test_an_amount_is_read_as_the_body_carries_it_and_as_careless_shops_would(written):
    body = f'{{"operation_id": "x", "amount": {written}, "payer_inn": "7707083893"}}'.encode()
    read = read_back(body).amounts

    assert set(AMOUNTS[written]) <= set(read)
    assert read[:1] == AMOUNTS[written][:1]


PAYERS = {
    '"77 DROP TABLE"': {"77 DROP TABLE", "77 DROP TA", "77 DROP TABL", "77"},
    '""': set(),
    '"770708389"': {"770708389", "0770708389", "000770708389"},
    '"77070838930"': {"77070838930", "7707083893", "077070838930"},
    '" 7707083893 "': {" 7707083893 ", "7707083893"},
    '"７７０７０８３８９３"': {"７７０７０８３８９３", "7707083893"},
    "null": {"None", "null"},
    "7707083893": {"7707083893"},
    '["7707083893"]': {"['7707083893']", '["7707083893"]', "7707083893"},
    '{"inn": "7707083893"}': {"{'inn': '7707083893'}", '{"inn": "7707083893"}', "7707083893"},
}


@pytest.mark.parametrize("written", PAYERS)
def test_a_payer_is_read_as_it_is_written_and_as_careless_shops_would(written):
    body = f'{{"operation_id": "x", "amount": 1, "payer_inn": {written}}}'.encode()

    assert PAYERS[written] <= set(read_back(body).payers)
    assert bool(PAYERS[written]) == bool(read_back(body).payers)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"operation_id": "x", "amount": 7, "payer_inn": "1"}]',
        b'{"data": {"operation_id": "x", "amount": 7, "payer_inn": "1"}}',
        b"operation_id=x&amount=7&payer_inn=1",
        b'{"operation_id": "x", "amount": 7, "payer_inn": "1", "document_nu',
        b'{"operation_id": "x", "document_number": "\xff", "amount": 7, "payer_inn": "1"}',
    ],
)
def test_facts_are_read_back_from_bodies_of_every_shape(body):
    carried = read_back(body)

    assert (carried.operation_ids, carried.payers[0], carried.amounts) == (("x",), "1", (7,))


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[" * 100_000, b" " * 1000, b"\x00\xff", b"{}", b"null", b'{"amount": {}}']
)
def test_a_body_without_facts_carries_none(body):
    assert read_back(body) == Carried()


@pytest.mark.parametrize("amount_max", [1, 2, 99, 100, 10**10 - 1, 2**63 - 1])
def test_no_valid_amount_is_beyond_the_bound_and_one_is_at_it(amount_max):
    plan = a_plan(amount_max=amount_max)
    amounts = [operation.amount for operation in plan.operations]

    assert min(amounts) >= 1
    assert max(amounts) == min(amount_max, max(HUGE_AMOUNT, *amounts))
    for step in plan.steps:
        if step.kind == Kind.ALTERED_AMOUNT:
            assert step.claim.amounts[0] != plan.operations[step.operation].amount
            assert step.claim.amounts[0] <= max(amount_max, 2)


def test_every_operation_is_repeated_until_it_is_acknowledged():
    plan = a_plan()
    acknowledged = {step.operation for step in plan.steps if step.expect == Expect.ACKNOWLEDGED}

    assert acknowledged == {operation.number for operation in plan.operations}


def test_nothing_waits_for_what_comes_later():
    settled: set[int | None] = set()
    for step in a_plan(operations=1000).steps:
        assert step.after is None or step.after in settled
        if step.expect == Expect.ACKNOWLEDGED:
            settled.add(step.operation)


def test_operations_are_sent_out_of_their_order():
    firsts = [step.operation for step in a_plan().steps if step.kind in (Kind.FIRST, Kind.PARALLEL)]

    assert firsts != sorted(firsts)


def test_inns_are_good_and_ids_are_distinct():
    plan = a_plan(operations=1000)

    assert all(len(inn) == 10 and stdnum_inn.is_valid(inn) for inn in plan.inns)
    assert len(set(plan.inns)) == len(plan.inns)
    assert len({operation.id for operation in plan.operations}) == 1000
    claimed = {id_ for step in plan.steps if step.claim and step.operation is None for id_ in step.claim.operation_ids}
    assert claimed.isdisjoint(operation.id for operation in plan.operations)


def test_one_amount_is_beyond_what_a_float_holds():
    huge = [operation.amount for operation in a_plan().operations if operation.amount > HUGE_AMOUNT - 1]

    assert len(huge) == 1
    assert int(float(huge[0])) != huge[0]


def test_rewritten_bodies_are_the_same_json_in_other_bytes():
    plan = a_plan()
    for step in plan.steps:
        if step.kind == Kind.REWRITTEN:
            members = plan.operations[step.operation].members()
            assert json.loads(step.body) == members
            assert step.body != bodies.plain(members)


def test_only_forgeries_are_badly_signed():
    for step in a_plan().steps:
        assert (step.signed == Signed.RIGHTLY) == (step.expect != Expect.REFUSED)


def test_given_organisations_take_the_place_of_those_made_up():
    assert make_plan(seed=7, operations=20, organisations=8, inns=("1234567890",)).organisations == ("1234567890",)


@pytest.mark.parametrize("name", ["operations", "organisations", "day", "amount_max"])
def test_a_day_without_anything_is_refused(name):
    with pytest.raises(ValueError, match="at least one"):
        a_plan(**{name: 0})


def suspect(effect: int) -> Suspect:
    return Suspect(effect=effect, kind=Fault.DOUBLE, operation_id=str(effect), expected="", found="")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_difference_is_explained_by_the_amounts_that_make_it(count):
    suspects = [suspect(random.Random(place).randrange(10**12)) for place in range(30)]
    guilty = suspects[:count]

    assert set(explain(sum(each.effect for each in guilty), suspects)) == set(guilty)


def test_a_difference_that_nothing_makes_is_not_explained():
    assert explain(12345, [suspect(10), suspect(20)]) == ()
    assert explain(0, [suspect(10)]) == ()
