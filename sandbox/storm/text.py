"""The report of a storm as text: counts, a table by organisation, and a line for each finding."""

from collections.abc import Iterator, Sequence

from sandbox.storm.plan import Kind, Plan
from sandbox.storm.report import Account, Finding, Report

ROWS_MAX = 20
FINDINGS_MAX = 100

HEADER = ("organisation", "before", "sent", "earlier", "held", "expected", "credited", "logged", "after")
ANSWERS = ("2xx", "3xx", "4xx", "5xx", "no answer", "repeated", "left out")


def report_lines(report: Report, plan: Plan) -> Iterator[str]:
    """Return the lines of a report."""
    counts = report.counts
    what = f"{len(plan.operations)} operations, {len(plan.organisations)} organisations"
    yield f"Storm {report.seed}, day {report.day}, plan {report.plan}: {what}"
    answers = ", ".join(f"{name} {counts[name]}" for name in ANSWERS if counts.get(name))
    yield f"{counts.get('sent', 0)} webhooks sent: {answers}"
    yield ", ".join(f"{kind} {counts[kind]}" for kind in Kind if counts.get(kind))
    yield ""
    yield from _table([HEADER, *_rows(report, plan)])
    yield ""
    yield from report.notes
    yield from _findings(report.findings)
    if report.is_clean:
        yield f"Clean: every kopeck is where it should be, {_number(report.total('credited'))} credited."


def _rows(report: Report, plan: Plan) -> Iterator[Sequence[str]]:
    strangers = set(plan.strangers)
    known = sorted((a for a in report.accounts if a.inn not in strangers), key=lambda account: -account.sent)
    for account in known[:ROWS_MAX]:
        yield _row(account.inn, [account])
    groups = {
        "others": known[ROWS_MAX:],
        "strangers": [account for account in report.accounts if account.inn in strangers],
    }
    for name, accounts in groups.items():
        if accounts:
            yield _row(f"{name} ({len(accounts)})", accounts)
    yield _row("all", report.accounts)


def _row(name: str, accounts: Sequence[Account]) -> Sequence[str]:
    def added(column: str) -> str:
        values = [getattr(account, column) for account in accounts]
        return "not shown" if None in values else _number(sum(values))

    return name, *map(added, HEADER[1:])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *padded])


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings[:FINDINGS_MAX]:
        named = f"operation {finding.operation_id}, " if finding.operation_id else ""
        about = f"organisation {finding.inn}, {named}expected {finding.expected}, found {finding.found}"
        yield f"{finding.kind}: {about}"
    if len(findings) > FINDINGS_MAX:
        yield f"… and {len(findings) - FINDINGS_MAX} more"


def _number(kopecks: int) -> str:
    return f"{kopecks:,}".replace(",", " ")
