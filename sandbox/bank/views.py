"""Views of the mock bank: send one signed webhook, and run storms.

The target is a setting and never part of a request.
"""

import time
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from http_client import client
from http_client.connection import Unreachable
from sandbox import context
from sandbox.bank import payload, store
from sandbox.bank.store import Exchange
from sandbox.errors import GatewayError
from sandbox.pages import layout
from sandbox.pages.languages import Language
from sandbox.storm.findings import SENTENCES
from sandbox.storm.plan import make_plan
from sandbox.storm.shop import Shop, addresses_of
from sandbox.validation import TooDeep, parse_json

SHOWN = 10
OPERATIONS_MAX = 20_000
ORGANISATIONS_MAX = 100
NUMBER_MAX = 2**53
COLUMNS = ("before", "sent", "earlier", "held", "expected", "credited", "logged", "after")

blueprint = Blueprint("bank", __name__)


@blueprint.before_request
def refuse_to_reach_inside() -> None:
    """Refuse strangers whom the mock bank would show what this machine answers."""
    if not context.settings().bank_is_open:
        raise GatewayError("BANK_CLOSED", 403)


@blueprint.post("/api/v1/webhook/bank/imitation")
@blueprint.post("/api/v1/webhook/bank/imitation/")
def imitate() -> tuple[Response, int]:
    """Send a webhook; `?check=no` allows invalid values, `?signature=` chooses the kind of signature."""
    given = _read_object()
    how, checked = request.args.get("signature", "right"), request.args.get("check", "yes")
    problems: dict[str, list[str]] = {}
    if how not in payload.SIGNATURES:
        problems["signature"] = [f"Must be one of: {', '.join(payload.SIGNATURES)}."]
    if checked not in ("yes", "no"):
        problems["check"] = ["Must be yes or no."]
    if given is None:
        problems["body"] = ["Must be a JSON object, or nothing."]
    elif checked != "no":
        problems |= payload.problems(given)
    if problems or given is None:
        return jsonify(problems), 400
    members = payload.with_defaults(given, context.now())
    exchange = send(members, how)
    answer = {
        "sent_data": members,
        "webhook_url": exchange.url,
        "bank_webhook_status_code": exchange.answer_status,
        "bank_webhook_response": _as_json(exchange),
    }
    return jsonify(answer), 200


@blueprint.get("/bank/")
def page() -> str:
    """Show the form for a webhook, and the last exchanges."""
    return _render_page({}, {})


@blueprint.post("/bank/")
def send_from_page() -> AnyResponse | tuple[str, int]:
    """Send a webhook with the values of the form; empty fields get the sample's values."""
    layout.check_token()
    checked = "unchecked" not in request.form
    given = {name: value for name in payload.FIELDS if (value := request.form.get(name, "").strip())}
    members: dict[str, Any] = {**given}
    if "amount" in given:
        members["amount"] = _number(given["amount"], any_json=not checked)
    problems = payload.problems(members) if checked else {}
    if problems:
        return _render_page(given, problems), 400
    how = request.form.get("signature", "right")
    send(payload.with_defaults(members, context.now()), how if how in payload.SIGNATURES else "right")
    return redirect(url_for("bank.page", _anchor="last"), 303)


@blueprint.get("/bank/storm")
def storm() -> str:
    """Show the current or last storm, and the form for another."""
    return _render_storm(None)


@blueprint.post("/bank/storm")
def start_storm() -> AnyResponse | tuple[str, int]:
    """Start a storm in a thread; only one runs at a time."""
    layout.check_token()
    settings, form = context.settings(), request.form
    numbers = {
        "seed": _parse_int(form.get("seed"), 0, NUMBER_MAX),
        "day": _parse_int(form.get("day"), 1, NUMBER_MAX),
        "operations": _parse_int(form.get("operations"), 1, OPERATIONS_MAX),
        "organisations": _parse_int(form.get("organisations"), 1, ORGANISATIONS_MAX),
        "amount_max": _parse_int(form.get("amount_max") or str(NUMBER_MAX), 1, NUMBER_MAX),
    }
    wrong = [name for name, value in numbers.items() if value is None]
    if wrong:
        names = ", ".join(layout.translate(f"storm.{name}") for name in wrong)
        return _render_storm(layout.translate("storm.bad_numbers", names=names)), 400
    seed, day, operations, organisations, amount_max = (value or 0 for value in numbers.values())
    plan = make_plan(
        seed=seed,
        operations=operations,
        organisations=organisations,
        day=day,
        amount_max=amount_max if form.get("amount_max") else None,
    )
    shop = Shop(addresses_of(settings.shop_url, webhook=settings.shop_url))
    if not context.sandbox().storm.start(plan, shop, secret=settings.bank_secret, again="again" in form):
        return _render_storm(layout.translate("storm.running")), 409
    return redirect(url_for("bank.storm"), 303)


@blueprint.post("/bank/storm/stop")
def stop_storm() -> AnyResponse:
    """Stop a storm early; the report covers what was played."""
    layout.check_token()
    context.sandbox().storm.stop()
    return redirect(url_for("bank.storm"), 303)


@blueprint.get("/bank/storm/progress")
def storm_progress() -> Response:
    """Return the progress of the storm, with the report at its end."""
    return jsonify(_progress())


def send(members: dict[str, Any], how: str) -> Exchange:
    """Sign and send one webhook to the configured shop, and store the exchange."""
    settings = context.settings()
    body = payload.encode(members)
    headers = {"Content-Type": "application/json"}
    signature = payload.SIGNATURES[how](body, settings.bank_secret) if settings.bank_secret else None
    if signature is not None:
        headers["X-Signature"] = signature
    sent_at, started = context.now(), time.monotonic()
    status: int | None = None
    answer_headers: dict[str, str] = {}
    try:
        answer = client.post(settings.shop_url, body, headers)
        status, answer_headers, text = answer.status, dict(answer.headers), answer.body.decode(errors="replace")
    except Unreachable as problem:
        text = str(problem)
    exchange = Exchange(
        url=settings.shop_url,
        headers=headers,
        body=body.decode("utf-8", "replace"),
        answer_status=status,
        answer_headers=answer_headers,
        answer_body=text,
        duration_ms=round((time.monotonic() - started) * 1000),
        sent_at=sent_at,
    )
    store.save(context.store(), exchange)
    return exchange


def _render_page(given: dict[str, Any], problems: payload.Problems) -> str:
    return render_template(
        "bank.html",
        here=url_for("bank.page"),
        given=given,
        problems=problems,
        sample=payload.SAMPLE,
        signatures=list(payload.SIGNATURES),
        is_signed=context.settings().bank_secret is not None,
        target=context.settings().shop_url,
        exchanges=store.latest(context.store(), SHOWN),
    )


def _progress() -> dict[str, Any]:
    """Return the progress, also as texts in the language of this request."""
    progress, language = context.sandbox().storm.as_json(), layout.current_language()
    report = progress["report"] or {}
    return {
        **progress,
        "phase_text": language.text(progress["phase"]),
        "counts_text": _counted(progress["counts"], language),
        "left_out_text": _counted(report.get("left_out", {}), language),
    }


def _counted(counts: dict[str, int], language: Language) -> str:
    return ", ".join(f"{language.text(name)} {count}" for name, count in counts.items())


def _render_storm(problem: str | None) -> str:
    storm = context.sandbox().storm.storm
    plan = storm.plan if storm else None
    fields = [
        ("seed", plan.seed if plan else 1),
        ("day", plan.day if plan else 1),
        ("operations", len(plan.operations) if plan else 1000),
        ("organisations", len(plan.organisations) if plan else 10),
    ]
    return render_template(
        "storm.html",
        here=url_for("bank.storm"),
        now=_progress(),
        plan=plan,
        report=storm.report if storm else None,
        columns=COLUMNS,
        fields=fields,
        amount_max=plan.amount_max if plan else None,
        sentences=SENTENCES,
        problem=problem,
        target=context.settings().shop_url,
    )


def _read_object() -> dict[str, Any] | None:
    """Parse the body: an object, or nothing, which means an empty object; None for anything else."""
    text = request.get_data()
    try:
        value = parse_json(text) if text.strip() else {}
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _as_json(exchange: Exchange) -> Any:
    if exchange.answer_status is None:
        return {"detail": exchange.answer_body}
    try:
        return parse_json(exchange.answer_body)
    except (ValueError, TooDeep):
        return exchange.answer_body


def _number(text: str, *, any_json: bool) -> Any:
    """Parse the amount of a form: a whole number, any JSON if nothing is checked, else the text."""
    if text.isascii() and text.isdigit() and len(text) <= 19:
        return int(text)
    if any_json:
        try:
            return parse_json(text)
        except (ValueError, TooDeep):
            return text
    return text


def _parse_int(text: str | None, least: int, most: int) -> int | None:
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) <= 16
    return int(text) if text and is_number and least <= int(text) <= most else None
