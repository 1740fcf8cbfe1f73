"""Plays small storms against a shop of the tests."""

from typing import Any

from sandbox.storm.plan import Plan, make_plan
from sandbox.storm.report import Report
from sandbox.storm.run import Storm
from sandbox.storm.shop import Shop as Seen
from tests.sandbox.factories import BANK_SECRET
from tests.sandbox.shops import Shop

FEW = make_plan(seed=11, operations=120, organisations=6)


def run_storm(shop: Shop, plan: Plan = FEW, **options: Any) -> Report:
    settings = {"secret": BANK_SECRET, "patience": 0.3, "settle": 0.3, **options}
    return Storm(plan=plan, shop=Seen(shop.addresses), **settings).run()


def findings_text(report: Report) -> str:
    return "\n".join(map(str, [*report.findings[:30], *report.notes]))
