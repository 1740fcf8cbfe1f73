"""What the sandbox's tests are made of: settings, a clock, orders as a shop sends them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.settings import Settings

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECRET = "test-secret-0123456789abcdef0123456789"
BANK_SECRET = "dGVzdC1zZWNyZXQtMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
"""A secret that is base64, so that it can sign as Standard Webhooks defines it, too."""
WEBHOOK_URL = "http://127.0.0.1:9/hook"
EMAIL = "payer@example.com"

GOOD = "4444 4444 4444 4444"
NO_3DS = "5555 5555 5555 4444"
UNKNOWN = "4000 0000 0000 0002"


class Clock:
    """The sandbox's clock, which stands still until a test moves it; to pause is to move it."""

    def __init__(self, moment: datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **span: float) -> None:
        self.moment += timedelta(**span)

    def pause(self, seconds: float) -> None:
        self.move(seconds=seconds)


def make_settings(folder: Path, **overrides: str) -> Settings:
    environ = {
        "SANDBOX_DATABASE": str(folder / "sandbox.db"),
        "SANDBOX_WEBHOOK_SECRET": SECRET,
        "SANDBOX_PAY_PER_MINUTE": "0",
    }
    return Settings.from_env({**environ, **overrides})


def order(**overrides: Any) -> dict[str, Any]:
    return {
        "amount": 25000,
        "reference": "ORDER-123",
        "webhookUrl": WEBHOOK_URL,
        "redirectUrl": "https://shop.example/thanks",
        **overrides,
    }
