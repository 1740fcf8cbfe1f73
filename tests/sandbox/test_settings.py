"""The settings: defaults, problems, precedence."""

import json
from urllib.parse import unquote, urlsplit

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


UPSTREAM = {
    "WEBHOOK_SECRET": "upstream-secret-0123456789-0123456789",
    "BASE_URL": "http://127.0.0.1:9000/",
    "CURRENCY_CODE": "UAH",
    "CURRENCY_SYMBOL": "грн",
    "SMTP_HOST": "mail.example",
    "SMTP_PORT": "2525",
    "SMTP_USER": "shop@a.example",
    "SMTP_PASS": "p/w:1@#",
}


def test_the_names_of_upstream_are_known():
    read = Settings.from_env(UPSTREAM)

    assert (read.webhook_secret, read.base_url) == (UPSTREAM["WEBHOOK_SECRET"], "http://127.0.0.1:9000")
    assert (read.currency.code, read.currency.symbol) == ("UAH", "грн")
    parts = urlsplit(read.smtp_url)
    assert (parts.scheme, parts.hostname, parts.port) == ("smtp", "mail.example", 2525)
    assert (unquote(parts.username), unquote(parts.password)) == ("shop@a.example", "p/w:1@#")


def test_the_names_of_the_sandbox_take_precedence_over_those_of_upstream():
    own = {
        "SANDBOX_WEBHOOK_SECRET": "own-secret-0123456789-0123456789-0123",
        "SANDBOX_BASE_URL": "http://127.0.0.1:9001",
        "SANDBOX_CURRENCY": "EUR",
        "SANDBOX_SMTP_URL": "smtp://own.example",
    }
    read = Settings.from_env({**UPSTREAM, **own})

    assert (read.webhook_secret, read.base_url) == (own["SANDBOX_WEBHOOK_SECRET"], own["SANDBOX_BASE_URL"])
    assert (read.currency.code, read.smtp_url) == ("EUR", "smtp://own.example")
    assert Settings.from_env({**UPSTREAM, "SANDBOX_BASE_URL": " "}).base_url == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"SMTP_HOST": "localhost", "SMTP_PORT": "1025"}, "smtp://localhost:1025"),
        ({"SMTP_HOST": "mail.example"}, "smtp://mail.example:587"),
        ({"SMTP_HOST": "mail.example", "SMTP_PORT": "465"}, "smtps://mail.example:465"),
        ({"SMTP_HOST": "::1", "SMTP_PORT": "25"}, "smtp://[::1]:25"),
    ],
)
def test_a_mail_server_in_the_names_of_upstream(given, url):
    assert Settings.from_env(given).smtp_url == url


@pytest.mark.parametrize(("given", "symbol"), [({"CURRENCY_SYMBOL": "US$"}, "US$"), ({"CURRENCY_CODE": "USD"}, "$")])
def test_one_half_of_the_currency_in_the_names_of_upstream(given, symbol):
    assert Settings.from_env(given).currency == settings.Currency(code="USD", symbol=symbol)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"WEBHOOK_SECRET": "short"}, "WEBHOOK_SECRET must have"),
        ({"WEBHOOK_SECRET": "default_secret_key_change_in_production"}, "WEBHOOK_SECRET is AcquireMock's default"),
        ({"SMTP_HOST": "a", "SMTP_USER": "b", "SMTP_PASS": "'in quotation marks'"}, "SMTP_PASS"),
        ({"BASE_URL": "http://acquiremock:8000"}, "BASE_URL must name this machine"),
        ({"BASE_URL": "ftp://a"}, "BASE_URL must be"),
        ({"CURRENCY_CODE": "dollars"}, "CURRENCY_CODE or CURRENCY_SYMBOL must be"),
        ({"CURRENCY_SYMBOL": "dollars"}, "CURRENCY_CODE or CURRENCY_SYMBOL must be"),
        ({"SMTP_USER": "a", "SMTP_PASS": "b"}, "SMTP_HOST is missing: without it SMTP_USER, SMTP_PASS"),
        ({"SMTP_PORT": "587"}, "SMTP_HOST is missing"),
        ({"SMTP_HOST": "a", "SMTP_USER": "b"}, "SMTP_USER and SMTP_PASS"),
        ({"SMTP_HOST": "a", "SMTP_PORT": "x"}, "SMTP_PORT must be"),
        ({"SMTP_HOST": "a", "SMTP_PORT": "70000"}, "SMTP_PORT must be"),
        ({"SMTP_HOST": "a b/"}, "SMTP_HOST must be"),
    ],
)
def test_a_setting_in_the_names_of_upstream_that_cannot_be_used_is_named_as_it_was_given(given, problem):
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(given)

    (only,) = refusal.value.problems
    assert only.startswith(problem)


def test_a_wrong_name_of_upstream_does_not_matter_beside_the_own_one():
    both = {"WEBHOOK_SECRET": "short", "SANDBOX_WEBHOOK_SECRET": "s" * 40}

    assert Settings.from_env(both).webhook_secret == "s" * 40


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
        ("SANDBOX_BASE_URL", "http://a:99999"),
        ("SANDBOX_DATABASE", "/etc"),
        ("SANDBOX_DATABASE", "/etc/passwd/s.db"),
        ("SANDBOX_SMTP_URL", "smtp://mail.example:port"),
        ("SANDBOX_SHOP_URL", "http://shop.example:99999/"),
        ("SANDBOX_BANK_SECRET", '"in quotation marks"'),
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
    read = Settings.from_env(
        {"SANDBOX_WEBHOOK_SECRET": "s" * 40, "SANDBOX_BANK_SECRET": "b" * 40, "SANDBOX_API_KEY": "k" * 40}
    )

    assert "ssss" not in repr(read)
    assert "bbbb" not in repr(read)
    assert "kkkk" not in repr(read)


def test_create_app_reads_the_environment_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SANDBOX_DATABASE", str(tmp_path / "s.db"))
    monkeypatch.setenv("SANDBOX_BASE_URL", "http://127.0.0.1:9005")
    client = create_app(work=False).test_client()

    assert json.loads(client.post("/api/create-invoice", json=order()).data)["pageUrl"].startswith(
        "http://127.0.0.1:9005/"
    )


def test_settings_are_the_tests_own(tmp_path):
    assert make_settings(tmp_path).database == tmp_path / "sandbox.db"
