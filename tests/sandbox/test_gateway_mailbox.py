"""Mails: text and HTML, how many are kept, and what leaves by SMTP."""

from email.message import EmailMessage

import pytest

from sandbox.gateway import mailbox
from tests.sandbox.factories import EMAIL, NO_3DS


class PostOffice:
    """Stands in for smtplib.SMTP."""

    sent: list[tuple[str, str]]
    messages: list[EmailMessage]

    def __init__(self, *_: object, **__: object) -> None:
        """Connect."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""

    def send_message(self, message) -> None:
        type(self).sent.append((message["To"], message["Subject"]))
        type(self).messages.append(message)


@pytest.fixture
def post_office(monkeypatch) -> type[PostOffice]:
    PostOffice.sent, PostOffice.messages = [], []
    monkeypatch.setattr("smtplib.SMTP", PostOffice)
    return PostOffice


def send_all(payer, clock) -> int:
    return mailbox.send_due(payer.app.extensions["sandbox"].store, "smtp://mail.example", clock())


def test_a_mail_is_text_and_html(payer, clock, post_office):
    payment_id = payer.create(reference="<b>7</b> & co")
    payer.pay_through(payment_id)
    send_all(payer, clock)

    code, receipt = post_office.messages
    for message in (code, receipt):
        assert message.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
        assert message["From"] == "sandbox@localhost"
    text, html = (part.get_content() for part in receipt.iter_parts())
    assert "Order: <b>7</b> & co" in text
    assert "&lt;b&gt;7&lt;/b&gt; &amp; co" in html
    assert "<b>7" not in html
    mail = payer.client.get("/sandbox/api/inbox?limit=1").json["items"][0]
    assert (mail["body"].strip(), mail["html"].strip()) == (text.strip(), html.strip())


def test_the_sender_is_the_user_of_the_mail_server_if_that_is_an_address(payer, clock, post_office, monkeypatch):
    monkeypatch.setattr(post_office, "starttls", lambda *_, **__: None, raising=False)
    monkeypatch.setattr(post_office, "login", lambda _, user, password: logins.append((user, password)), raising=False)
    logins = []
    payer.pay_through(payer.create(), NO_3DS)
    mailbox.send_due(payer.app.extensions["sandbox"].store, "smtp://shop%40a.example:p%2Fw@mail.example:587", clock())

    assert post_office.messages[0]["From"] == "shop@a.example"
    assert logins == [("shop@a.example", "p/w")]


@pytest.mark.parametrize("path", ["/sandbox/inbox/{id}", "/sandbox/inbox/{id}/"])
def test_the_html_of_a_mail_is_shown_where_it_can_do_nothing(payer, path):
    payer.pay_through(payer.create(reference="<script>alert(1)</script>"), NO_3DS)
    mail = payer.client.get("/sandbox/api/inbox").json["items"][0]
    shown = payer.client.get(path.format(id=mail["id"]))

    assert shown.text == mail["html"]
    assert "<script" not in shown.text
    policy = shown.headers["Content-Security-Policy"]
    assert "sandbox;" in policy
    assert "allow-" not in policy
    assert "default-src 'none'" in policy
    assert shown.headers["X-Frame-Options"] == "SAMEORIGIN"
    inbox = payer.client.get("/sandbox/inbox")
    assert '<iframe sandbox loading="lazy" title="Receipt for &lt;script&gt;' in inbox.text
    assert inbox.headers["X-Frame-Options"] == "DENY"
    assert payer.client.get("/sandbox/inbox/999").status_code == 404


def test_the_oldest_mails_are_deleted(payer, monkeypatch):
    monkeypatch.setattr(mailbox, "MAILS_MAX", 3)
    for number in range(5):
        payer.pay_through(payer.create(reference=f"R{number}"), NO_3DS)

    subjects = [mail["subject"] for mail in payer.client.get("/sandbox/api/inbox").json["items"]]
    assert subjects == [f"Receipt for R{number}" for number in (4, 3, 2)]


def test_only_so_many_mails_leave_in_an_hour(payer, clock, post_office):
    one, in_all = mailbox.SENT_TO_ONE_PER_HOUR_MAX, mailbox.SENT_PER_HOUR_MAX
    for _ in range(one + 2):
        payer.pay_through(payer.create(), NO_3DS)
    send_all(payer, clock)
    assert len(post_office.sent) == one
    for number in range(in_all):
        payer.pay_through(payer.create(), NO_3DS, email=f"{number}@example.com")
    send_all(payer, clock)
    assert len(post_office.sent) == in_all

    newest = payer.client.get("/sandbox/api/inbox").json["items"][0]
    assert "are the limit" in newest["error"]
    assert "are the limit" in payer.client.get("/sandbox/inbox").text
    clock.move(hours=1, seconds=1)
    assert send_all(payer, clock) == 0
    payer.pay_through(payer.create(), NO_3DS)
    assert send_all(payer, clock) == 1


def test_mails_go_by_smtp_only_if_it_is_set(payer, clock, post_office):
    payer.pay_through(payer.create())
    store = payer.app.extensions["sandbox"].store

    assert mailbox.send_due(store, None, clock()) == 0
    assert mailbox.send_due(store, "smtp://mail.example", clock()) == 2
    assert mailbox.send_due(store, "smtp://mail.example", clock()) == 0
    assert [to for to, _ in post_office.sent] == [EMAIL, EMAIL]


def test_a_mail_server_that_is_away_is_tried_three_times_and_stops_no_payment(payer, clock, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("smtplib.SMTP", refuse)
    payer.pay_through(payer.create(), NO_3DS)
    store = payer.app.extensions["sandbox"].store
    sent = []
    for _ in range(5):
        sent.append(mailbox.send_due(store, "smtp://mail.example", clock()))
        clock.move(minutes=1)

    assert sent == [1, 1, 1, 0, 0]
    assert "did not take it" in payer.client.get("/sandbox/api/inbox").json["items"][0]["error"]
