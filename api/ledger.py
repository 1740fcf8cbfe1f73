"""REST: both sides of the ledger."""

from typing import Any

from flask_smorest import Blueprint

from api.access import require
from api.parsing import READER
from ledger import trial_balance
from schemas import TrialBalanceOut, TrialBalanceQuery

blueprint = Blueprint("ledger", __name__, description="System accounts, and both sides of every kopeck")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/ledger/trial-balance/")
@require("ledger:read", read_only=True)
@blueprint.arguments(TrialBalanceQuery, location="query")
@blueprint.response(200, TrialBalanceOut)
def show_trial_balance(query: dict[str, Any]) -> dict[str, Any]:
    """Add up what each account was debited and credited, at the end of a day or by now."""
    balance = trial_balance.at(query.get("on"))
    return {
        "accounts": balance.lines,
        "debits": balance.debits,
        "credits": balance.credits,
        "difference": balance.debits - balance.credits,
    }
