"""REST: what is acknowledged and not credited yet, with queued updates."""

from typing import Any

from flask_smorest import Blueprint

from api.access import require
from api.parsing import READER
from context import now
from ledger import inbox
from schemas import InboxPage, Page

blueprint = Blueprint("inbox", __name__, description="What waits to be credited")
blueprint.ARGUMENTS_PARSER = READER


@blueprint.route("/inbox/")
@require("incidents:read", read_only=True)
@blueprint.arguments(Page, location="query")
@blueprint.response(200, InboxPage)
def list_inbox(query: dict[str, Any]) -> dict[str, Any]:
    """List webhooks that were acknowledged and are not credited yet, the oldest first, and say how many there are."""
    page = inbox.webhook_list().page(cursor=query.get("cursor"), limit=query["limit"])
    banks = inbox.backlog()
    oldest_at = min((bank.oldest_at for bank in banks), default=None)
    return {
        "items": page.items,
        "next": page.next,
        "count": sum(bank.count for bank in banks),
        "oldest_at": oldest_at,
        "overdue": oldest_at is not None and inbox.is_overdue(oldest_at, now=now()),
        "banks": banks,
    }
