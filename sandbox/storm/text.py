"""The report of a storm as text, on one screen: counts, a table by organisation, and each fault with examples."""

from collections.abc import Iterator, Sequence

from sandbox.storm.findings import SENTENCES, Finding
from sandbox.storm.plan import Kind, Plan
from sandbox.storm.report import Account, Report

ROWS_MAX = 10
EXAMPLES_MAX = 6
"""How many findings are shown in all; each fault has at least one. `--json` has every finding."""

LINE_CHARACTERS_MAX = 240

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
    if report.left_out:
        yield "Not sent: " + ", ".join(f"{kind} {report.left_out[kind]}" for kind in Kind if report.left_out.get(kind))
    yield ""
    yield from _table([HEADER, *_rows(report, plan)])
    yield ""
    yield from report.notes
    yield from _findings(report)
    if report.is_clean:
        yield f"Clean: every kopeck is where it should be, {_number(report.total('credited'))} credited."


def _rows(report: Report, plan: Plan) -> Iterator[Sequence[str]]:
    strangers = set(plan.strangers)
    organisations = [account for account in report.accounts if account.inn in plan.organisations]
    organisations.sort(key=lambda account: -account.sent)
    for account in organisations[:ROWS_MAX]:
        yield _row(account.inn, [account])
    groups = {
        "others": organisations[ROWS_MAX:],
        "strangers": [account for account in report.accounts if account.inn in strangers],
        "elsewhere": [account for account in report.accounts if account.inn not in plan.inns],
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


def _findings(report: Report) -> Iterator[str]:
    found = report.by_fault
    for fault, findings in found.items():
        yield f"{fault} ({len(findings)}): {SENTENCES[fault]}"
        shown = max(1, EXAMPLES_MAX // len(found))
        yield from map(_example, findings[:shown])
        if len(findings) > shown:
            yield f"  … and {len(findings) - shown} more; --json shows all"


def _example(finding: Finding) -> str:
    named = f"operation {finding.operation_id}, " if finding.operation_id else ""
    line = f"  organisation {finding.inn or '-'}, {named}expected {finding.expected}, found {finding.found}"
    # Payers and documents are texts of the shop.
    safe = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    return safe[:LINE_CHARACTERS_MAX]


def _number(kopecks: int) -> str:
    return f"{kopecks:,}".replace(",", " ")
