"""Settings, who may knock, our own API, the inbox; and that the sandbox knows no more of Kopeck than it may."""

import ast
import json
from pathlib import Path

import pytest

from sandbox import context, create_app, settings
from sandbox.gateway import mailbox
from sandbox.settings import Settings, SettingsError
from sandbox.store import Store
from tests.sandbox.factories import EMAIL, NO_3DS, make_settings, order

FOLDER = Path(settings.__file__).parent
SHARED = {"signing", "transport", "addresses", "errors"}


# ---- settings


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


# ---- who may knock


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8001", "[::1]:8001"])
def test_this_machine_is_answered_under_its_own_names(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "asked", [{"headers": {"Host": "evil.example"}}, {"environ_base": {"REMOTE_ADDR": "192.168.1.5"}}]
)
def test_others_are_refused_unless_it_is_public(make_app, asked):
    assert make_app().test_client().get("/sandbox/api/inbox", **asked).status_code == 403
    assert make_app(SANDBOX_PUBLIC="yes").test_client().get("/sandbox/api/inbox", **asked).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_page_of_another_site_cannot_make_a_browser_do_anything(client, headers):
    assert client.post("/sandbox/api/reset", json={}, headers=headers).status_code == 403
    assert client.post("/api/create-invoice", json=order(), headers=headers).status_code == 403


def test_pages_of_ours_and_programs_may(client):
    assert client.post("/sandbox/api/reset", json={}, headers={"Origin": "http://localhost"}).status_code == 200
    assert client.post("/sandbox/api/reset", json={}).status_code == 200
    assert client.post("/sandbox/api/reset").status_code == 415


def test_a_body_that_is_too_large_is_refused(client):
    assert client.post("/api/create-invoice", data=b" " * 300_000).status_code == 413


# ---- our own API


def test_invoices_are_listed_and_filtered(payer):
    paid, pending = payer.create(reference="Order ONE"), payer.create(reference="Order TWO")
    payer.pay(paid, NO_3DS)

    def ids(query: str) -> list[str]:
        return [item["id"] for item in payer.client.get(f"/sandbox/api/invoices?{query}").json["items"]]

    assert ids("") == [pending, paid]
    assert ids("status=paid") == ids("text=one") == ids(f"text={EMAIL}") == ids(f"text={paid[:8]}") == [paid]
    assert ids("limit=1") == [pending]
    assert ids("text=nothing") == []
    assert payer.client.get("/sandbox/api/invoices?limit=0").status_code == 400


def test_an_invoice_tells_its_story(payer):
    payment_id = payer.create()
    payer.pay_through(payment_id)

    shown = payer.client.get(f"/sandbox/api/invoices/{payment_id}").json

    assert [(move["before"], move["after"]) for move in shown["moves"]] == [
        (None, "pending"),
        ("pending", "waiting_for_otp"),
        ("waiting_for_otp", "paid"),
    ]
    assert (shown["status"], shown["captured"], shown["email"]) == ("paid", 25000, EMAIL)


def test_webhooks_are_shown_with_all_that_went_out(payer, shop):
    payment_id = payer.create(webhookUrl=shop.url)
    payer.pay_through(payment_id)
    payer.work()

    (webhook,) = payer.client.get(f"/sandbox/api/webhooks?invoice={payment_id}&state=delivered").json["items"]

    (attempt,) = webhook["attempts"]
    assert attempt["body"].encode() == shop.received[0].body
    assert attempt["headers"]["X-Signature"] == attempt["signature"] == shop.received[0].headers["x-signature"]
    assert (attempt["answer_status"], attempt["answer_body"], attempt["error"]) == (200, "ok", None)
    assert payer.client.get("/sandbox/api/webhooks?state=failed").json["items"] == []


def test_receipts_and_codes_are_in_the_inbox(payer):
    payer.pay_through(payer.create(reference="R-1\r\nBcc: x"))

    mails = payer.client.get("/sandbox/api/inbox").json["items"]

    assert [mail["kind"] for mail in mails] == ["receipt", "otp"]
    assert "250.00 USD" in mails[0]["body"]
    assert "\n" not in mails[0]["subject"]
    assert payer.client.get("/sandbox/api/inbox?email=other@example.com").json["items"] == []


def test_reset_forgets_everything_but_the_secret(payer, make_app):
    app = make_app(SANDBOX_WEBHOOK_SECRET="")
    with app.app_context():
        secret = context.webhook_secret()
    payer.pay_through(payer.create(), save_card="true")
    payer.prove()

    assert payer.client.post("/sandbox/api/reset", json={}).status_code == 200

    assert payer.client.get("/sandbox/api/invoices").json["items"] == []
    assert payer.client.get("/sandbox/api/inbox").json["items"] == []
    assert payer.client.get(f"/api/user-info?email={EMAIL}").json == {"operations": [], "cards": []}
    with app.app_context():
        assert context.webhook_secret() == secret


def test_the_cards_are_listed(client):
    listed = client.get("/sandbox/api/cards").json

    assert {
        "number": "4444444444444444",
        "network": "AcquireMock",
        "title": "Success with 3-D Secure",
    }.items() <= listed["items"][0].items()
    assert {"ok", "fail", "otp", "slow", "timeout"} <= set(listed["steps"])


# ---- mails by SMTP


class PostOffice:
    """Stands in for smtplib.SMTP."""

    sent: list[tuple[str, str]]

    def __init__(self, *_: object, **__: object) -> None:
        """Connect."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""

    def send_message(self, message) -> None:
        type(self).sent.append((message["To"], message["Subject"]))


def test_mails_go_by_smtp_only_if_it_is_set(make_app, payer, clock, monkeypatch):
    PostOffice.sent = []
    monkeypatch.setattr("smtplib.SMTP", PostOffice)
    payer.pay_through(payer.create())
    store = payer.app.extensions["sandbox"].store

    assert mailbox.send_due(store, None, clock()) == 0
    assert mailbox.send_due(store, "smtp://mail.example", clock()) == 2
    assert mailbox.send_due(store, "smtp://mail.example", clock()) == 0
    assert [to for to, _ in PostOffice.sent] == [EMAIL, EMAIL]


def test_a_mail_server_that_is_away_is_tried_three_times_and_stops_no_payment(payer, clock, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("smtplib.SMTP", refuse)
    payer.pay_through(payer.create(), NO_3DS)
    store = payer.app.extensions["sandbox"].store
    tries = []
    for _ in range(5):
        tries.append(mailbox.send_due(store, "smtp://mail.example", clock()))
        clock.move(minutes=1)

    assert tries == [1, 1, 1, 0, 0]
    assert "did not take it" in payer.client.get("/sandbox/api/inbox").json["items"][0]["error"]


# ---- the file, and the borders


def test_a_file_of_another_version_is_set_aside(tmp_path):
    store = Store(tmp_path / "s.db")
    store.prepare()
    with store.writing() as connection:
        connection.execute("PRAGMA user_version = 99")
    store.prepare()

    assert len(store.secret()) == 64
    assert len(list(tmp_path.glob("s.db.*"))) >= 1


def test_a_start_keeps_what_is_there(payer, make_app):
    payment_id = payer.create()
    make_app()

    assert payer.invoice(payment_id).status == "pending"


def test_writes_are_durable_and_references_are_kept(payer):
    connection = payer.app.extensions["sandbox"].store.connect()
    pragmas = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    connection.close()

    assert pragmas == ["wal", 2, 1]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_sandbox_knows_kopeck_only_over_http(path):
    if "snippets" in path.parts:
        return
    ours = {file.stem for file in settings.ROOT.glob("*.py")} | {"api", "banks", "cli", "bench", "tests"}

    assert imported(path) & ours <= SHARED
    text = path.read_text()
    assert text.count("\n") <= 500
    assert ast.get_docstring(ast.parse(text)) or (path.name == "__init__.py" and not text)


def test_only_settings_read_the_environment():
    readers = {path.name for path in FOLDER.rglob("*.py") if "os.environ" in path.read_text()}

    assert readers == {"settings.py"}


def test_create_app_reads_the_environment_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SANDBOX_DATABASE", str(tmp_path / "s.db"))
    monkeypatch.setenv("SANDBOX_BASE_URL", "http://127.0.0.1:9005")
    client = create_app(work=False).test_client()

    assert json.loads(client.post("/api/create-invoice", json=order()).data)["pageUrl"].startswith(
        "http://127.0.0.1:9005/"
    )


def test_settings_are_the_tests_own(tmp_path):
    assert make_settings(tmp_path).database == tmp_path / "sandbox.db"
