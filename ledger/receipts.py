"""A receipt: a signed line for the bank that says what was credited, the same at every repeat of its webhook.

Called by the webhook door. docs/webhooks.md describes the form. Reads nothing.
"""

from uuid import UUID

import rules
import signing
from ledger.posting import Recorded

HEADER = "Kopeck-Receipt"


def line(operation_id: UUID, recorded: Recorded, *, key: str) -> str:
    """Return what was recorded of an operation, and the ed25519 signature of all that stands before it."""
    assert recorded.recorded_at is not None
    said = (
        f"operation={operation_id}; payment={recorded.id}; body={recorded.body_sha256}; row={recorded.row_sha256}; "
        f"at={rules.rfc3339(recorded.recorded_at)}"
    )
    return f"{said}; signature={signing.sign_document(said.encode(), key)}"
