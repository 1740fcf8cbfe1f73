"""The settings: defaults, problems, precedence."""

import json

import pytest

from sandbox import create_app, settings
from sandbox.settings import Settings, SettingsError
from tests.sandbox.factories import make_settings, order


def test_everything_has_a_default():
    read = Settings.from_env({})

    assert (read.host, read.port, read.base_url) == ("127.0.0.1", 8001, "http://127.0.0.1:8001")
    assert read.database == settings.ROOT / "instance" / "sandbox.db"
    assert (read.webhook_secret, read.bank_secret, read.smtp_url, read.public) == (None, None, None, False)
    assert (read.currency.code, read.currency.symbol) == ("USD", "$")
    assert (read.amount_form, read.announce, read.pay_per_minute) == ("float", "all", 60)
    assert read.shop_url == "http://127.0.0.1:8000/api/v1/webhook/bank/"


def test_it_takes_over_what_kopeck_is_set_to():
    read = Settings.from_env({"PORT": "8080", "BANK_WEBHOOK_SECRETS": "new, old"})

    assert read.shop_url == "http://127.0.0.1:8080/api/v1/webhook/bank/"
    assert read.bank_secret == "new"


@pytest.mark.parametrize(
    ("text", "code", "symbol"), [("UAH", "UAH", "₴"), ("UAH грн", "UAH", "грн"), ("XTS", "XTS", "XTS")]
)
def test_currency_is_a_code_and_a_symbol(text, code, symbol):
    currency = Settings.from_env({"SANDBOX_CURRENCY": text}).currency

    assert (currency.code, currency.symbol) == (code, symbol)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SANDBOX_PORT", "0"),
        ("SANDBOX_PORT", "x"),
        ("SANDBOX_HOST", "0.0.0.0"),
        ("SANDBOX_HOST", "192.168.1.5"),
        ("SANDBOX_BASE_URL", "javascript:1"),
        ("SANDBOX_BASE_URL", "http://a/?b"),
        ("SANDBOX_WEBHOOK_SECRET", "short"),
        ("SANDBOX_CURRENCY", "dollars"),
        ("SANDBOX_AMOUNT_FORM", "text"),
        ("SANDBOX_ANNOUNCE", "none"),
        ("SANDBOX_PAY_PER_MINUTE", "-1"),
        ("SANDBOX_SHOP_URL", "shop"),
        ("SANDBOX_SMTP_URL", "mail.example"),
        ("SANDBOX_PUBLIC", "maybe"),
    ],
)
def test_each_setting_that_cannot_be_used_is_named(name, value):
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env({name: value})

    assert [problem for problem in refusal.value.problems if problem.startswith(name)]
    assert len(refusal.value.problems) == 1


def test_the_mock_bank_signs_nothing_in_production_with_what_is_believed_there():
    real = {"KOPECK_ENV": "production", "BANK_WEBHOOK_SECRETS": "real"}

    assert Settings.from_env(real).bank_secret is None
    assert Settings.from_env({**real, "SANDBOX_BANK_SECRET": "on purpose"}).bank_secret == "on purpose"


def test_others_are_let_in_only_on_purpose():
    assert Settings.from_env({"SANDBOX_HOST": "0.0.0.0", "SANDBOX_PUBLIC": "yes"}).host == "0.0.0.0"


def test_the_environment_wins_over_the_file(tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "SANDBOX_PORT=9001\nSANDBOX_CURRENCY=EUR\nSANDBOX_WEBHOOK_SECRET=${HOME}-0123456789-0123456789-012345\n"
    )

    read = settings.load(file, {"SANDBOX_PORT": "9002", "SANDBOX_CURRENCY": ""})

    assert (read.port, read.currency.code) == (9002, "EUR")
    assert read.webhook_secret.startswith("${HOME}")
    with pytest.raises(SystemExit, match="SANDBOX_PORT"):
        settings.load(file, {"SANDBOX_PORT": "x"})


def test_no_secret_is_shown_by_accident():
    read = Settings.from_env({"SANDBOX_WEBHOOK_SECRET": "s" * 40, "SANDBOX_BANK_SECRET": "b" * 40})

    assert "ssss" not in repr(read)
    assert "bbbb" not in repr(read)


def test_create_app_reads_the_environment_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SANDBOX_DATABASE", str(tmp_path / "s.db"))
    monkeypatch.setenv("SANDBOX_BASE_URL", "http://127.0.0.1:9005")
    client = create_app(work=False).test_client()

    assert json.loads(client.post("/api/create-invoice", json=order()).data)["pageUrl"].startswith(
        "http://127.0.0.1:9005/"
    )


def test_settings_are_the_tests_own(tmp_path):
    assert make_settings(tmp_path).database == tmp_path / "sandbox.db"
