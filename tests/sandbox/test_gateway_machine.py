"""Random actions of payers and shops in any order: only allowed moves, correct sums, a webhook for each end."""

import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sandbox import context, create_app, worker
from sandbox.gateway.model import MOVES, Status
from tests.sandbox.factories import GOOD, NO_3DS, UNKNOWN, Clock, make_settings
from tests.sandbox.payer import Payer

AMOUNT = 100
CARDS = (GOOD, NO_3DS, UNKNOWN, "5555555555554592", "4000000000000051", "4000000000000077")
KEYS = (None, "a", "b")
NEVER_STATUS = (200, 202, 303, 400, 401, 402, 404, 409, 410, 429, 504)
NOTIFIED = ("paid", "failed", "expired")


class Gateway(RuleBasedStateMachine):
    """A gateway with two payments in which anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        app = create_app(make_settings(Path(self.folder.name)), self.clock, self.clock.pause, work=False)
        self.payer = Payer(app, app.test_client())
        self.payments = [self.payer.create(amount=AMOUNT) for _ in range(2)]
        self.token = self.payer.open(self.payments[0])

    def check(self, answer) -> None:
        assert answer.status_code in NEVER_STATUS, answer.text

    def pick(self, data) -> str:
        return data.draw(st.sampled_from(self.payments))

    @rule(data=st.data(), card=st.sampled_from(CARDS), key=st.sampled_from(KEYS))
    def pay(self, data, card, key):
        self.check(self.payer.submit(self.pick(data), self.token, card, key=key))

    @rule(data=st.data(), chain=st.sampled_from(["fail,ok", "otp", "slow", "fail", "timeout", ""]))
    def script(self, data, chain):
        capture = data.draw(st.sampled_from(["manual", "automatic"]))
        self.check(self.payer.script(self.pick(data), chain, capture=capture))

    @rule(data=st.data(), right=st.booleans())
    def enter(self, data, right):
        payment_id = self.pick(data)
        shown = self.payer.client.get(f"/sandbox/api/invoices/{payment_id}/otp")
        code = shown.json.get("otp_code") or "0000"
        self.check(self.payer.enter(payment_id, code if right else f"{(int(code) + 1) % 10_000:04d}"))

    @rule(data=st.data(), what=st.sampled_from(["capture", "cancel", "refund", "otp/resend"]))
    def act(self, data, what):
        amount = data.draw(st.sampled_from([None, 1, 60, AMOUNT]))
        self.check(self.payer.act(self.pick(data), what, key=data.draw(st.sampled_from(KEYS)), amount=amount))

    @rule(data=st.data())
    def look(self, data):
        payment_id = self.pick(data)
        for page in ("checkout", "otp", "success"):
            self.check(self.payer.client.get(f"/{page}/{payment_id}"))

    @rule(seconds=st.sampled_from([1, 31, 301, 900]))
    def wait(self, seconds):
        self.clock.move(seconds=seconds)

    @precondition(lambda self: self.payments)
    @rule()
    def work(self):
        with self.payer.app.app_context():
            worker.settle_due()

    @invariant()
    def only_allowed_moves_were_made_and_each_end_has_its_webhook(self):
        for payment_id in self.payments:
            moves = [Status(status) for status in self.payer.moves(payment_id)]
            assert moves[0] is Status.PENDING
            assert all(after in MOVES[before] for before, after in pairwise(moves))
            assert self.payer.invoice(payment_id).status == moves[-1]
            assert moves.count(Status.PAID) <= 1
            statuses = [webhook.status for webhook in self.payer.webhooks(payment_id)]
            assert statuses == [status for status in moves if status in NOTIFIED]

    @invariant()
    def money_adds_up(self):
        with self.payer.app.app_context(), context.store().reading() as connection:
            for payment_id in self.payments:
                invoice = self.payer.invoice(payment_id)
                row = connection.execute("SELECT sum(amount) FROM refunds WHERE invoice_id = ?", (payment_id,))
                assert invoice.refunded == (row.fetchone()[0] or 0)
                assert 0 <= invoice.refunded <= invoice.captured <= invoice.amount == AMOUNT

    def teardown(self) -> None:
        self.folder.cleanup()


def test_whatever_happens_the_gateway_stays_in_order():
    profile = settings(
        max_examples=12,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(Gateway, settings=profile)
