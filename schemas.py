"""Every JSON body and query, in and out: shape only, never the database.

Called by the banks and the doors; the OpenAPI document is made from these same classes.
"""

from marshmallow import EXCLUDE, Schema, fields, validate

import rules
from enums import (
    EVENT_FILTERS,
    EVERYTHING,
    AttemptCause,
    DeliveryStatus,
    DisabledReason,
    EventType,
    ExportFormat,
    IncidentKind,
    IncidentState,
    LogReason,
    PreviewOutcome,
    Scheme,
    SignatureScheme,
    UnknownInn,
    WebhookStatus,
)
from fields import (
    TEXT_JSON,
    Day,
    Flag,
    Inn,
    Kopecks,
    Moment,
    OperationId,
    QueryMoment,
    QueryNumber,
    Strict,
    Text,
    Whole,
)
from limits import ROTATION_SECONDS_MAX, URL_CHARACTERS_MAX

NAME_CHARACTERS_MAX = 255
NOTE_CHARACTERS_MAX = 1000
PAGE_ROWS_DEFAULT = 50
PAGE_ROWS_MAX = 500
ROTATION_SECONDS = 24 * 3600
INCIDENTS_DEFAULT = 20
INCIDENTS_MAX = 100

COUNTED = [status for status in WebhookStatus if status is not WebhookStatus.ACCEPTED]

ROUBLES = ("RUB", "RUR", "643")
"""The three names under which Russian banks write roubles."""


class BankWebhook(Schema):
    """The plain bank's announcement of money; members that are not listed are accepted and kept with the body."""

    class Meta:
        """Banks add members without asking."""

        unknown = EXCLUDE

    operation_id = OperationId(required=True)
    amount = Kopecks(required=True)
    payer_inn = Inn(required=True)
    document_number = Text(required=True, validate=validate.Length(1, rules.DOCUMENT_NUMBER_CHARACTERS_MAX))
    document_date = Moment(required=True)
    currency = fields.String(
        load_default="RUB",
        validate=validate.OneOf(ROUBLES, error="Only roubles are credited."),
        metadata={"description": "Not part of the format; a sender that adds it must mean roubles."},
    )


class StoredBankWebhook(BankWebhook):
    """The same, read again from a body that an older version has taken, within wider bounds for the date."""

    document_date = Moment(required=True, bounded=False)


class WebhookAnswer(Schema):
    """What a bank hears; credited, duplicate and conflict come with 200, held with 202."""

    status = fields.String(required=True, validate=validate.OneOf(COUNTED))
    operation_id = fields.UUID(required=True)
    payment_id = fields.UUID(required=True, allow_none=True)
    incident_id = fields.Integer(required=True, allow_none=True)


class AcceptedAnswer(Schema):
    """What a bank hears where webhooks are credited by a worker: it is stored, and need not come again."""

    status = fields.String(required=True, validate=validate.OneOf([WebhookStatus.ACCEPTED]))


class WhichBank(Strict):
    """Whose format a body is in."""

    bank = fields.String(load_default="plain")


class SignatureReport(Schema):
    """Whether a signature holds, with which secret, and how old it is."""

    valid = fields.Boolean(required=True)
    scheme = fields.String(required=True, allow_none=True, validate=validate.OneOf(list(SignatureScheme)))
    key_id = fields.String(required=True, allow_none=True)
    key_position = fields.Integer(
        required=True, allow_none=True, metadata={"description": "0 is the newest of the current secrets."}
    )
    age_seconds = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class FieldProblemOut(Schema):
    """One thing that is wrong: where in the body (a JSON pointer), or in which query parameter."""

    pointer = fields.String()
    parameter = fields.String()
    detail = fields.String(required=True)


class VerifyAnswer(Schema):
    """What the webhook door would do with this very request; nothing was written."""

    signature = fields.Nested(SignatureReport, required=True)
    outcome = fields.String(required=True, validate=validate.OneOf(list(PreviewOutcome)))
    http_status = fields.Integer(required=True)
    inn = fields.String(required=True, allow_none=True)
    balance = fields.Integer(required=True, allow_none=True, metadata={"description": "Kopecks, now."})
    balance_after = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Kopecks, once this webhook had been taken."}
    )
    errors = fields.List(fields.Nested(FieldProblemOut), required=True)


class OrganizationIn(Strict):
    """An organisation to register."""

    inn = Inn(required=True)
    name = Text(load_default="", validate=validate.Length(0, NAME_CHARACTERS_MAX))


class OrganizationOut(Schema):
    """An organisation and what it holds."""

    inn = fields.String(required=True)
    name = fields.String(required=True)
    balance = fields.Integer(required=True, metadata={"description": "Kopecks."})
    currency = fields.String(required=True)
    version = fields.Integer(required=True, metadata={"description": "How many times the balance has moved."})
    inn_checksum_ok = fields.Boolean(required=True, metadata={"description": "Advice only."})
    created_at = Moment(required=True)


class BalanceOut(Schema):
    """The balance of one organisation."""

    inn = fields.String(required=True)
    balance = fields.Integer(required=True, metadata={"description": "Kopecks."})
    currency = fields.String(required=True)
    version = fields.Integer(required=True, metadata={"description": "How many times the balance has moved."})


class LogEntryOut(Schema):
    """One move of a balance: before + delta = after, versions without a gap."""

    version = fields.Integer(required=True)
    created_at = Moment(required=True)
    delta = fields.Integer(required=True)
    balance_before = fields.Integer(required=True)
    balance_after = fields.Integer(required=True)
    reason = fields.String(required=True, validate=validate.OneOf(list(LogReason)))
    payment_id = fields.UUID(required=True, allow_none=True, metadata={"description": "What it came by."})
    operation_id = fields.UUID(required=True)
    source = fields.String(required=True)
    document_number = fields.String(required=True, allow_none=True, metadata={"description": "Of the payment."})
    document_date = Moment(required=True, allow_none=True, metadata={"description": "Of the payment."})
    debit_id = fields.UUID(required=True, allow_none=True, metadata={"description": "What it went by."})
    counter_account = fields.String(
        required=True, metadata={"description": "The other side: where the money came from, or went to."}
    )


class PaymentOut(Schema):
    """Money that reached a balance, as the bank announced it."""

    payment_id = fields.UUID(required=True)
    operation_id = fields.UUID(required=True)
    external_id = fields.String(required=True, allow_none=True)
    source = fields.String(required=True)
    amount = fields.Integer(required=True)
    currency = fields.String(required=True)
    payer_inn = fields.String(required=True)
    document_number = fields.String(required=True)
    document_date = Moment(required=True)
    body_sha256 = fields.String(required=True)
    key_id = fields.String(required=True)
    received_at = Moment(required=True)


class ResolutionOut(Schema):
    """How an incident was resolved once; it may have been opened again since."""

    resolved_at = Moment(
        required=True, allow_none=True, metadata={"description": "Not known of some that are older than this list."}
    )
    resolved_by = fields.String(required=True)
    resolution = fields.String(required=True)


class IncidentOut(Schema):
    """Something a person must look at."""

    id = fields.Integer(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(list(IncidentKind)))
    source = fields.String(required=True)
    operation_id = fields.UUID(required=True, allow_none=True)
    facts = fields.Dict(required=True)
    body_base64 = fields.String(required=True, metadata={"description": "What arrived, byte for byte."})
    body_sha256 = fields.String(required=True)
    key_id = fields.String(required=True)
    seen_count = fields.Integer(required=True)
    created_at = Moment(required=True)
    last_seen_at = Moment(required=True)
    resolved_at = Moment(required=True, allow_none=True)
    resolved_by = fields.String(required=True, allow_none=True)
    resolution = fields.String(required=True, allow_none=True)
    resolutions = fields.List(
        fields.Nested(ResolutionOut), required=True, metadata={"description": "Each time, the first one first."}
    )
    payment_id = fields.UUID(
        required=True, allow_none=True, metadata={"description": "The payment that has credited its operation."}
    )


class QueuedWebhookOut(Schema):
    """A webhook that is acknowledged and not credited yet."""

    id = fields.Integer(required=True)
    source = fields.String(required=True)
    received_at = Moment(required=True)
    unknown_inn = fields.String(required=True, validate=validate.OneOf(list(UnknownInn)))
    attempt_count = fields.Integer(required=True)
    due_at = Moment(required=True, metadata={"description": "When a worker looks at it again."})


class BacklogOut(Schema):
    """How much of one bank waits."""

    source = fields.String(required=True)
    count = fields.Integer(required=True)
    oldest_at = Moment(required=True)


class ResolveIn(Strict):
    """Why an incident needs nothing more."""

    resolution = Text(
        required=True,
        validate=validate.Length(1, NOTE_CHARACTERS_MAX),
        metadata={**TEXT_JSON, "description": 'Cannot begin with "assigned to": only an assignment is kept so.'},
    )


class AssignIn(Strict):
    """To whom the money of an incident belongs."""

    inn = Inn(required=True)


class Page(Strict):
    """Which part of a list is asked for."""

    cursor = fields.String(validate=validate.Length(1, 200), metadata={"description": "`next` of the page before."})
    limit = QueryNumber(load_default=PAGE_ROWS_DEFAULT, validate=validate.Range(1, PAGE_ROWS_MAX))


class TrialBalanceQuery(Strict):
    """For which day."""

    on = Day(metadata={"description": "As it was at the end of this day, Moscow time; now, if left out."})


class AccountSums(Schema):
    """One account; `organizations` is all of them together."""

    account = fields.String(required=True)
    debits = fields.Integer(required=True)
    credits = fields.Integer(required=True)
    balance = fields.Integer(required=True, metadata={"description": "Debits less credits."})


class TrialBalanceOut(Schema):
    """Both sides of every kopeck; the difference is 0."""

    accounts = fields.List(fields.Nested(AccountSums), required=True)
    debits = fields.Integer(required=True)
    credits = fields.Integer(required=True)
    difference = fields.Integer(required=True)


class StatementPage(Page):
    """Which part of a statement is asked for; `from` is within it, `to` is not."""

    since = QueryMoment(data_key="from")
    until = QueryMoment(data_key="to")
    format = fields.String(load_default=None, validate=validate.OneOf(["json", *ExportFormat]))


class IncidentPage(Page):
    """Which incidents are asked for; fewer at once, since each carries the body that arrived."""

    limit = QueryNumber(load_default=INCIDENTS_DEFAULT, validate=validate.Range(1, INCIDENTS_MAX))

    state = fields.String(load_default=IncidentState.OPEN, validate=validate.OneOf(list(IncidentState)))


class EndpointIn(Strict):
    """Where to announce what, and how it is signed."""

    url = Text(required=True, validate=validate.Length(1, URL_CHARACTERS_MAX), metadata={**TEXT_JSON, "format": "uri"})
    scheme = fields.String(load_default=Scheme.STANDARD, validate=validate.OneOf(list(Scheme)))
    organization = Inn(load_default=None, allow_none=True, metadata={"description": "Its INN; without, all of them."})
    event_types = fields.List(
        fields.String(validate=validate.OneOf(EVENT_FILTERS)),
        load_default=[EVERYTHING],
        validate=validate.Length(1, 10),
    )
    ordered = Flag(load_default=False, metadata={"description": "One after the other, for each organisation."})
    description = Text(load_default="", validate=validate.Length(0, NAME_CHARACTERS_MAX))


class EndpointOut(Schema):
    """An endpoint, without its secret."""

    id = fields.Integer(required=True)
    url = fields.String(required=True)
    description = fields.String(required=True)
    scheme = fields.String(required=True, validate=validate.OneOf(list(Scheme)))
    organization = fields.String(required=True, allow_none=True)
    event_types = fields.List(fields.String(validate=validate.OneOf(EVENT_FILTERS)), required=True)
    ordered = fields.Boolean(required=True)
    created_at = Moment(required=True)
    failing_since = Moment(required=True, allow_none=True)
    disabled_at = Moment(required=True, allow_none=True)
    disabled_because = fields.String(required=True, allow_none=True, validate=validate.OneOf(list(DisabledReason)))


class EndpointSecret(Schema):
    """What a receiver verifies events with; it is shown this once."""

    id = fields.Integer(required=True)
    secret = fields.String(required=True)
    public_key = fields.String(required=True, allow_none=True, metadata={"description": "With `standard`, for v1a."})


class RotateIn(Strict):
    """How long the old secret stays good."""

    overlap_seconds = Whole(load_default=ROTATION_SECONDS, validate=validate.Range(0, ROTATION_SECONDS_MAX))


class ReplayIn(Strict):
    """From which moment on an endpoint is to hear everything again."""

    since = Moment(required=True)


class ReplayOut(Schema):
    """How far a replay has come."""

    id = fields.Integer(required=True)
    since = Moment(required=True)
    asked_by = fields.String(required=True)
    created_at = Moment(required=True)
    finished_at = Moment(
        required=True, allow_none=True, metadata={"description": "When the last of its events was queued."}
    )
    queued = fields.Integer(required=True, metadata={"description": "Events so far."})
    open = fields.Integer(required=True, metadata={"description": "How many of them are still to be delivered."})


class Queued(Schema):
    """What a worker will do; look at it under its own address."""

    id = fields.Integer(required=True)


class EventPage(Page):
    """Which events of an organisation are asked for."""

    organization = Inn(required=True)
    after_version = QueryNumber(load_default=0, validate=validate.Range(0, rules.MONEY_MAX))


class EventOut(Schema):
    """An event as the `standard` scheme sends it."""

    id = fields.UUID(required=True)
    type = fields.String(required=True, validate=validate.OneOf(list(EventType)))
    timestamp = Moment(required=True)
    data = fields.Dict(required=True)


class DeliveryPage(Page):
    """Which deliveries are asked for."""

    endpoint = QueryNumber(validate=validate.Range(0, rules.MONEY_MAX))
    status = fields.String(validate=validate.OneOf(list(DeliveryStatus)))
    event = OperationId()
    organization = Inn()


class DeliveryOut(Schema):
    """One event for one endpoint."""

    id = fields.Integer(required=True)
    event_id = fields.UUID(required=True)
    event_type = fields.String(required=True, validate=validate.OneOf(list(EventType)))
    endpoint_id = fields.Integer(required=True)
    organization = fields.String(required=True, allow_none=True)
    version = fields.Integer(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(list(DeliveryStatus)))
    attempt_count = fields.Integer(required=True)
    due_at = Moment(required=True, allow_none=True, metadata={"description": "When a worker looks at it again."})
    created_at = Moment(required=True)
    settled_at = Moment(required=True, allow_none=True)


class AttemptOut(Schema):
    """One try of a delivery."""

    number = fields.Integer(required=True)
    cause = fields.String(required=True, validate=validate.OneOf(list(AttemptCause)))
    started_at = Moment(required=True)
    duration_ms = fields.Integer(required=True, allow_none=True)
    status_code = fields.Integer(required=True, allow_none=True)
    excerpt = fields.String(required=True)
    error = fields.String(required=True, allow_none=True)


class DeliveryDetail(DeliveryOut):
    """One event for one endpoint, with every try."""

    attempts = fields.List(fields.Nested(AttemptOut), required=True)


def page_of(item: type[Schema]) -> type[Schema]:
    """Return the schema of one page of a list: its items and the cursor of the next page."""
    return Schema.from_dict(
        {
            "items": fields.List(fields.Nested(item), required=True),
            "next": fields.String(required=True, allow_none=True),
        },
        name=f"{item.__name__.removesuffix('Out')}Page",
    )


class InboxPage(Schema):
    """One page of what waits, and how much waits in all."""

    items = fields.List(fields.Nested(QueuedWebhookOut), required=True)
    next = fields.String(required=True, allow_none=True)
    count = fields.Integer(required=True)
    oldest_at = Moment(required=True, allow_none=True)
    overdue = fields.Boolean(
        required=True, metadata={"description": "Whether the oldest waits so long that no worker may be running."}
    )
    banks = fields.List(fields.Nested(BacklogOut), required=True)


class HealthOut(Schema):
    """Whether the process, or the process and its database, are in order."""

    status = fields.String(required=True)
    warnings = fields.List(fields.String(), metadata={"description": "What a person should look at; none if left out."})


class ReadyOut(HealthOut):
    """The same; `warnings` are there if something needs a person and is no reason to send requests elsewhere."""

    warnings = fields.List(fields.String())


class ProblemOut(Schema):
    """Any error, as RFC 9457 has it."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String()
    errors = fields.List(fields.Nested(FieldProblemOut))
    request_id = fields.String()
