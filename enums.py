"""Every status, cause and reason that a table or a caller may hold, each with the moves that lead to it.

The tables' CHECK constraints, the schemas and the OpenAPI document take them from here.
"""

from enum import StrEnum


class PostingStatus(StrEnum):
    """What became of one credit or debit in the ledger."""

    CREDITED = "credited"
    DEBITED = "debited"
    DUPLICATE = "duplicate"  # the operation was posted before, with the same facts
    CONFLICT = "conflict"  # the operation was posted before, with other facts
    UNKNOWN_INN = "unknown_inn"  # no such organisation, and none may be created
    BALANCE_LIMIT = "balance_limit"  # the balance would pass rules.MONEY_MAX, or rules.BALANCE_MIN
    OVERDRAFT = "overdraft"  # the balance would pass below what the organisation may owe


class WebhookStatus(StrEnum):
    """What a bank hears of its webhook."""

    CREDITED = "credited"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    HELD = "held"  # UNKNOWN_INN or BALANCE_LIMIT: kept as an incident that can be assigned
    ACCEPTED = "accepted"  # stored; a worker makes one of the four above of it


class PreviewOutcome(StrEnum):
    """What a dry run says of a webhook: what the bank would hear, or why nothing would be credited or held."""

    CREDITED = WebhookStatus.CREDITED
    DUPLICATE = WebhookStatus.DUPLICATE
    CONFLICT = WebhookStatus.CONFLICT
    HELD = WebhookStatus.HELD
    UNUSABLE = "unusable"  # authentic, but not in the bank's format
    REFUSED = "refused"  # not authentic


class SignatureScheme(StrEnum):
    """How a bank signs a webhook."""

    X_SIGNATURE = "x-signature"
    STANDARD_WEBHOOKS = "standard-webhooks"


class UnknownInn(StrEnum):
    """What becomes of money for an INN that no organisation has."""

    CREATE = "create"  # the organisation is registered
    HOLD = "hold"  # the money is kept as an incident for a person


class LogReason(StrEnum):
    """Why a balance moved."""

    CREDIT = "credit"
    DEBIT = "debit"  # asked for by a person or a billing: never below the overdraft limit
    OUTSIDE_DEBIT = "outside_debit"  # it has happened elsewhere, and is recorded whatever the balance


class AccountKind(StrEnum):
    """What a system account is for: where money of organisations comes from, and goes to."""

    BANK = "bank"  # money at a bank
    TRANSIT = "transit"  # an acquirer owes it to us
    FEES = "fees"  # commission that we keep
    EXPENSES = "expenses"  # an acquirer's own fee
    VAT = "vat"  # the tax on it
    REFUNDS = "refunds"  # given back to payers
    DISPUTES = "disputes"  # taken back by payers through their banks
    CORRECTIONS = "corrections"  # set right by a person


class IncidentKind(StrEnum):
    """Why a person must look at something."""

    UNUSABLE_BODY = "unusable_body"  # authentic, but not in the bank's format
    UNKNOWN_INN = "unknown_inn"  # no such organisation, with UNKNOWN_INN=hold
    BALANCE_LIMIT = "balance_limit"  # the balance would pass what a BIGINT holds
    CONFLICT = "conflict"  # a used operation_id with other facts
    OVERDRAWN = "overdrawn"  # a debit that had happened elsewhere took a balance below what its organisation may owe
    ENDPOINT_DISABLED = "endpoint_disabled"  # it answered 410, or has failed for too long
    STUCK_WEBHOOK = "stuck_webhook"  # acknowledged, waiting in the inbox, and failing for a reason of ours
    UNREADABLE_KEYS = "unreadable_keys"  # of endpoints, by a worker: SECRETS_KEYS do not fit, or a row was changed


class IncidentState(StrEnum):
    """Which incidents a list shows."""

    OPEN = "open"  # recorded, or recorded again while its money is credited nowhere
    RESOLVED = "resolved"  # open → resolved: assigned to an organisation, or closed with a note
    ALL = "all"


class ExportFormat(StrEnum):
    """As what file a statement is exported; docs/api.md describes each."""

    CSV = "csv"  # for programs: kopecks, UTC
    EXCEL_CSV = "excel-csv"  # for a spreadsheet with Russian settings: roubles, Moscow time
    XLSX = "xlsx"  # for any spreadsheet: cells that know what they are


class Job(StrEnum):
    """What a worker does."""

    DELIVER = "deliver"  # sends what is due in the outbox
    CREDIT = "credit"  # credits what waits in the inbox
    REPLAY = "replay"  # queues what a replay asks for


class Scheme(StrEnum):
    """How a receiver wants its events written and signed; docs/events.md describes each."""

    STANDARD = "standard"
    X_SIGNATURE = "x-signature"
    ACQUIREMOCK = "acquiremock"


class EventType(StrEnum):
    """What can be announced."""

    CREDITED = "balance.credited"
    DEBITED = "balance.debited"
    PING = "ping"  # for its own endpoint alone; no filter asks for it


EVERYTHING = "*"
"""In an endpoint's filter: all events there are and will be."""

EVENT_FILTERS = (EVERYTHING, EventType.CREDITED.value, EventType.DEBITED.value)
"""What an endpoint's filter may name."""


class DeliveryStatus(StrEnum):
    """How far one event for one endpoint has come."""

    PENDING = "pending"  # recorded; or paused → pending: enabled again; or any → pending: replayed
    DELIVERED = "delivered"  # any → delivered: the endpoint answered 2xx
    EXHAUSTED = "exhausted"  # pending → exhausted: the schedule is at its end
    PAUSED = "paused"  # pending → paused: due while the endpoint is disabled


class AttemptCause(StrEnum):
    """Why a delivery is tried."""

    SCHEDULE = "schedule"  # the first attempt, and what the schedule of retries adds
    MANUAL = "manual"  # a person asked: a retry or a ping
    REPLAY = "replay"  # a person asked for everything since a moment


class DisabledReason(StrEnum):
    """Why nothing is announced to an endpoint."""

    MANUAL = "manual"  # a person disabled it; enabling ends this and the next two
    FAILING = "failing"  # every attempt failed for FAILING_SECONDS_MAX
    GONE = "gone"  # it answered 410
    DELETED = "deleted"  # for good


def listens_to(event_types: str, kind: str) -> bool:
    """Return whether an endpoint's filter, names with spaces between them, lets a type of event through."""
    return not {EVERYTHING, kind}.isdisjoint(event_types.split())
