"""Compares the bank's records with what the shop shows, and names each difference.

It is pure: no network, no clock.
"""

from collections.abc import Iterator

from sandbox.message import Message
from sandbox.storm import answers, balances, logs
from sandbox.storm.evidence import Evidence
from sandbox.storm.plan import Kind, Plan
from sandbox.storm.play import Results
from sandbox.storm.report import Account, Report
from sandbox.storm.shop import Reading

SLOW_SECONDS = 10.0
"""How long banks wait for an answer, about."""


def compare(
    plan: Plan,
    results: Results,
    before: Reading,
    after: Reading,
    *,
    again: bool = False,
    slow_seconds: float = SLOW_SECONDS,
) -> Report:
    """Compare the bank's records with the shop's; `again` means that this day was played before."""
    evidence = Evidence(plan, results, before, after, again=again)
    found = list(answers.check(evidence, slow_seconds=slow_seconds))
    if evidence.has_logs:
        found += logs.check(evidence)
    found += balances.check(evidence)
    accounts = tuple(_account(evidence, inn) for inn in (*plan.inns, *evidence.strays))
    return Report(
        seed=plan.seed,
        day=plan.day,
        plan=plan.digest(),
        accounts=accounts,
        findings=tuple(dict.fromkeys(answers.forgiven(found))),
        counts=dict(results.counts),
        left_out=dict(results.left_out),
        notes=tuple(dict.fromkeys((*before.notes, *after.notes, *_notes(evidence, accounts)))),
    )


def _account(evidence: Evidence, inn: str) -> Account:
    mine = [operation for operation in evidence.plan.operations if operation.inn == inn]
    earlier = evidence.accepted_sum(inn, earlier=True)
    return Account(
        inn=inn,
        before=evidence.before.balance(inn),
        after=evidence.after.balance(inn),
        sent=sum(operation.amount for operation in mine) + evidence.accepted_sum(inn) + earlier,
        expected=evidence.expected(inn),
        held=sum(operation.amount for operation in mine if operation.id in evidence.held),
        earlier=sum(operation.amount for operation in mine if operation.id in evidence.earlier) + earlier,
        logged=sum(entry.delta for entry in evidence.fresh.get(inn, ())) if evidence.has_logs else None,
        others=logs.strange(evidence, inn),
    )


def _notes(evidence: Evidence, accounts: tuple[Account, ...]) -> Iterator[str]:
    if evidence.earlier:
        yield Message(
            "{earlier} of {all} operations were counted before this storm began "
            "and must not be counted again; --day plays the same day with new ones.",
            earlier=len(evidence.earlier),
            all=len(evidence.by_id),
        )
    if evidence.results.ended_early:
        yield "The storm was ended early: what was not acknowledged by then may be credited or not."
    others = sum(1 for account in accounts if account.others)
    if others:
        yield Message(
            "Somebody else paid {count} of these organisations meanwhile; that money was left out.", count=others
        )
    errors = answers.first_errors(evidence)
    if errors:
        yield Message("{count} valid requests got a 5xx before they were acknowledged or given up.", count=errors)
    if _calls_conflicts_repeats(evidence):
        yield "Other facts under a used operation_id are called a duplicate: nobody there learns that they differ."
    still = all(account.credited == 0 for account in accounts)
    if not evidence.has_logs and not evidence.again and still and all(account.before for account in accounts):
        yield "No balance moved. If this very day was played here before, say --again, or play --day 2."


def _calls_conflicts_repeats(evidence: Evidence) -> bool:
    altered = (Kind.ALTERED_AMOUNT, Kind.ALTERED_PAYER)
    replies = [
        reply
        for number, replies in evidence.results.replies.items()
        for reply in replies
        if evidence.plan.steps[number].kind in altered
    ]
    return any(reply is not None and reply.is_ack and reply.outcome == "duplicate" for reply in replies)
