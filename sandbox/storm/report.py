"""The report of a storm: a row for each organisation, and the findings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.storm.findings import SENTENCES, Fault, Finding


@dataclass(frozen=True, kw_only=True)
class Account:
    """The result of one organisation, in kopecks; `logged` is None if there is no log."""

    inn: str
    before: int
    after: int
    sent: int
    expected: int
    held: int
    earlier: int
    logged: int | None
    others: int

    @property
    def credited(self) -> int:
        """Return the change of the balance."""
        return self.after - self.before


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a storm; it is clean if there is no finding. `left_out` counts steps that were not sent."""

    seed: int
    day: int
    plan: str
    accounts: tuple[Account, ...]
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Return whether there is no finding."""
        return not self.findings

    @property
    def is_short(self) -> bool:
        """Return whether money is missing that may still be credited."""
        return any(account.credited < account.expected for account in self.accounts)

    @property
    def by_fault(self) -> dict[Fault, list[Finding]]:
        """Return the findings of each kind, in the order in which the kinds are listed."""
        found: dict[Fault, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.kind, []).append(finding)
        return {fault: found[fault] for fault in Fault if fault in found}

    def total(self, column: str) -> int:
        """Return the sum of a column."""
        return sum(getattr(account, column) or 0 for account in self.accounts)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "seed": self.seed,
            "day": self.day,
            "plan": self.plan,
            "clean": self.is_clean,
            "accounts": [{**asdict(account), "credited": account.credited} for account in self.accounts],
            "faults": {fault: SENTENCES[fault] for fault in self.by_fault},
            "findings": [asdict(finding) for finding in self.findings],
            "counts": dict(self.counts),
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }
