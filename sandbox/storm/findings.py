"""The faults that a storm finds, each with a sentence that says what the shop does wrong."""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """The kind of a finding."""

    RACE = "double credit of concurrent copies"
    REPEATED = "double credit of repeats"
    BY_BYTES = "double credit of other bytes"
    BY_SPELLING = "double credit of another spelling"
    DOUBLE = "double credit"
    LOST = "acknowledged and lost"
    STILL = "no balance moved"
    LAGS = "balance lags"
    UNPROMISED = "credited without a promise"
    ALTERED = "altered facts credited"
    LAST_WINS = "altered facts replaced"
    ELSEWHERE = "credited to another"
    WRAPPED = "amount wrapped"
    CAPPED = "amount capped"
    CUT = "amount cut"
    ROUNDED = "amount rounded"
    UNIT = "amount in another unit"
    FLOAT = "money as a float"
    OTHER_AMOUNT = "another amount credited"
    DOCUMENT = "another document"
    UNUSABLE = "malformed and credited"
    MADE_UP = "made-up payer credited"
    SWALLOWED = "malformed and acknowledged"
    UNSIGNED = "no signature and accepted"
    WRONG_SIGNATURE = "wrong signature and accepted"
    HALF_SIGNATURE = "half a signature and accepted"
    OTHER_BYTES = "signature over other bytes accepted"
    STALE = "old signature accepted"
    THANKED = "forgery acknowledged"
    NOT_REFUSED = "forgery not refused"
    FAILED = "error of the shop's own"
    FAILED_CONCURRENT = "error to concurrent copies"
    FAILED_REPEAT = "error to a repeat"
    REFUSED = "authentic and refused"
    REFUSED_REPEAT = "repeat refused"
    REFUSED_LARGE = "large amounts refused"
    UNACKNOWLEDGED = "never acknowledged"
    SLOW = "answers too late"
    MISTAKEN = "understood otherwise"
    HELD = "held and not shown"
    CHAIN = "log does not add up"
    DISAGREE = "balance and log disagree"
    OFF = "difference"


SENTENCES: dict[Fault, str] = {
    Fault.RACE: "Copies that arrive at the same moment are each credited: "
    "the shop looks first and writes later. A unique key must decide.",
    Fault.REPEATED: "A repeat is credited again: the shop does not remember operation ids.",
    Fault.BY_BYTES: "The same JSON in other bytes is credited again: "
    "the shop knows repeats by the body, not by operation_id.",
    Fault.BY_SPELLING: "The same id in capitals, in braces or without dashes is credited again: "
    "ids are compared as text, not as UUIDs.",
    Fault.DOUBLE: "An operation is credited more than once.",
    Fault.LOST: "The bank got a 2xx and the money is nowhere: the shop acknowledges before it has committed.",
    Fault.STILL: "The bank got a 2xx for everything and no balance moved: "
    "the money is lost, or balances are shown much too late.",
    Fault.LAGS: "The newest credits are missing in the balance: it is a copy that is late.",
    Fault.UNPROMISED: "The money was credited, but the bank never got a 2xx.",
    Fault.ALTERED: "Another amount or payer under a used operation_id is credited, too.",
    Fault.LAST_WINS: "Another amount or payer under a used operation_id replaces the first: the last request wins.",
    Fault.ELSEWHERE: "The money went to another organisation than the body names.",
    Fault.WRAPPED: "An amount or balance lost its high bits: the column has too few bits and nothing checks it.",
    Fault.CAPPED: "An amount or balance became the largest number of its column: "
    "the column is too small and nothing checks it. --amount-max plays smaller amounts.",
    Fault.CUT: "An amount lost some of its digits.",
    Fault.ROUNDED: "Kopecks were rounded or cut off.",
    Fault.UNIT: "Kopecks were taken for roubles, or roubles for kopecks.",
    Fault.FLOAT: "Money is kept as a float, which cannot hold every kopeck.",
    Fault.OTHER_AMOUNT: "Another amount was credited than the body carries.",
    Fault.DOCUMENT: "The log names another document than the body.",
    Fault.UNUSABLE: "A body that cannot be used was credited.",
    Fault.MADE_UP: "Money went to a payer that cannot exist: payer_inn must be 10 or 12 digits, and is not checked.",
    Fault.SWALLOWED: "A body that cannot be used got a 2xx: the bank will not send it again, and nobody looks at it.",
    Fault.UNSIGNED: "A request without a signature is accepted.",
    Fault.WRONG_SIGNATURE: "A signature with another secret is accepted.",
    Fault.HALF_SIGNATURE: "The beginning of a signature is enough: the shop compares only what is there.",
    Fault.OTHER_BYTES: "A signature over other bytes of the same JSON is accepted: the shop parses before it verifies.",
    Fault.STALE: "A signature with a timestamp of an hour ago or in an hour is accepted: requests can be replayed.",
    Fault.THANKED: "A request with an invalid signature got a 2xx, although nothing was credited.",
    Fault.NOT_REFUSED: "A request with an invalid signature got neither a 2xx nor a 4xx.",
    Fault.FAILED: "A request that must be refused got a 5xx or no answer, several times.",
    Fault.FAILED_CONCURRENT: "Of copies that arrive at the same moment some get a 5xx: "
    "the shop credits once, but does not answer the others as repeats.",
    Fault.FAILED_REPEAT: "A repeat of a credited operation gets a 5xx: the bank would send it for ever.",
    Fault.REFUSED: "A valid request got a 4xx: the bank gives up, and the money is missing.",
    Fault.REFUSED_REPEAT: "A repeat of a credited operation gets a 4xx: the bank takes the payment for refused.",
    Fault.REFUSED_LARGE: "All amounts above a certain one are refused: the column is too small. "
    "--amount-max plays smaller amounts.",
    Fault.UNACKNOWLEDGED: "A valid request never got a 2xx, although it was repeated.",
    Fault.SLOW: "An answer took longer than a bank waits: it would send everything again.",
    Fault.MISTAKEN: "A repeat with the same facts was called a conflict.",
    Fault.HELD: "The answer says that the money is held, and no incident shows it.",
    Fault.CHAIN: "In a row of the log, before + delta is not after.",
    Fault.DISAGREE: "The rows of the log do not add up to the change of the balance.",
    Fault.OFF: "A balance is wrong, and no small set of operations explains it.",
}
"""What each fault means, for the report and the page."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem: its kind, the organisation, the operation, what was expected and what was found."""

    kind: Fault
    inn: str
    operation_id: str
    expected: str
    found: str
