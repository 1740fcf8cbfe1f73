"""Mails by SMTP."""

from sandbox.gateway import mailbox
from tests.sandbox.factories import EMAIL, NO_3DS


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
    sent = []
    for _ in range(5):
        sent.append(mailbox.send_due(store, "smtp://mail.example", clock()))
        clock.move(minutes=1)

    assert sent == [1, 1, 1, 0, 0]
    assert "did not take it" in payer.client.get("/sandbox/api/inbox").json["items"][0]["error"]
