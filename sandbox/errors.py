"""GatewayError: a refused request, with the error code that the client sees.

Messages never quote what a caller sent.
"""

from typing import Any

MESSAGES = {
    "PAYMENT_NOT_FOUND": "There is no such payment.",
    "PAYMENT_ALREADY_PROCESSED": "This payment has been processed already.",
    "PAYMENT_EXPIRED": "The time to pay is over.",
    "INVALID_OTP": "The code is wrong or was used already.",
    "CSRF_TOKEN_MISMATCH": "The form is out of date. Open the payment page again.",
    "SAVED_CARD_NOT_FOUND": "There is no such saved card for this e-mail in this session.",
    "ISSUER_TIMEOUT": "The card's bank has not answered in time. The result will follow.",
    "TOO_SOON": "A code was sent just now. Wait a little before asking for another.",
    "NOT_POSSIBLE": "This cannot be done to a payment in its present state.",
    "UNUSABLE": "The request cannot be used.",
    "CROSS_SITE": "This was sent from another site's page.",
    "BANK_CLOSED": (
        "With SANDBOX_PUBLIC=yes the mock bank sends to no address of this machine or of a private network. "
        "Set SANDBOX_SHOP_URL to a public address, or list the network in SANDBOX_NETWORKS."
    ),
    "LOOPBACK_ONLY": "Only this machine is answered. Set SANDBOX_PUBLIC=yes to serve others.",
}
"""One sentence for each error code. The reasons for declines are in cards.py."""


class GatewayError(Exception):
    """A request that cannot be fulfilled; `reason` distinguishes cases that share one code."""

    def __init__(
        self,
        code: str,
        status: int,
        message: str | None = None,
        payment_id: str | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.message = message or MESSAGES[code]
        self.payment_id = payment_id
        self.reason = reason
        super().__init__(f"{code}: {self.message}")

    def body(self) -> dict[str, Any]:
        """Return the body for an API client."""
        return {"error": self.code, "message": self.message, "payment_id": self.payment_id}


def not_found(payment_id: str) -> GatewayError:
    """Return the error for an unknown payment; the id is repeated only if it has the length of one."""
    return GatewayError("PAYMENT_NOT_FOUND", 404, payment_id=payment_id if len(payment_id) == 36 else None)
