"""One payment in each state, so that every page of the sandbox has content."""

from tests.sandbox.factories import Clock
from tests.sandbox.payer import Payer

SHORT_OF_MONEY = "4562 2655 8771 2390"
SILENT = "4000 0000 0000 0077"
ORDERS = ("ORDER-100", "ORDER-101", "ORDER-104")


def make_scene(payer: Payer, clock: Clock, webhook_url: str = "http://127.0.0.1:9/hook") -> dict[str, str]:
    """Create payments in every state; return the address of every page by name."""
    late = payer.create(reference="ORDER-99")
    clock.move(minutes=20)
    payer.work()
    paid, failed, scripted = (payer.create(reference=name, webhookUrl=webhook_url) for name in ORDERS)
    payer.pay_through(paid)
    payer.pay(failed, SHORT_OF_MONEY)
    payer.script(scripted, "fail,ok")
    payer.pay(scripted)
    waiting, fresh = payer.create(reference="ORDER-102"), payer.create(reference="Замовлення <b>5</b> & co")
    payer.pay(waiting)
    refunded = payer.create(reference="ORDER-103")
    payer.pay_through(refunded)
    payer.act(refunded, "refund", amount=5000)
    payer.work()
    return {
        "checkout": f"/checkout/{fresh}",
        "otp": f"/otp/{waiting}",
        "success": f"/success/{paid}",
        "failure": f"/failure/{failed}",
        "declined-once": f"/failure/{scripted}",
        "expired": f"/expired/{late}",
        "partly-refunded": f"/success/{refunded}",
        "not-paid": f"/success/{fresh}",
        "processed": f"/checkout/{paid}",
        "ended": f"/checkout/{failed}",
        "missing": "/checkout/00000000-0000-4000-8000-000000000000",
        "nowhere": "/nothing/here",
        "payments": "/",
        "no-payments": "/?text=nobody",
        "payment": f"/sandbox/invoices/{paid}",
        "webhooks": "/sandbox/webhooks",
        "inbox": "/sandbox/inbox",
        "cards": "/sandbox/cards",
        "verify": "/sandbox/verify",
        "new-payment": "/test",
        "reset": "/sandbox/reset",
    }
