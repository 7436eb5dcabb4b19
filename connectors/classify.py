"""What came of one exchange, as an `Outcome`: one table over status codes, one over faults, one over cut bodies.

Decided once, here; nobody looks at an exception or a status code afterwards. Pure. What no table knows has the
effect `unknown` and is never a success. A message never quotes the vendor or a credential.
"""

import base64
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec

from connectors.exchange import (
    Ambiguous,
    Answered,
    Cut,
    EgressRefused,
    Exchange,
    Fault,
    LeaseLost,
    NotSent,
    Refusal,
    RenderRefused,
    Unavailable,
    Unconfirmed,
)
from connectors.rates.reader import Rates, read_rates
from connectors.rates.rules import RateRules
from schemas.codec import Undecodable, decode
from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.outcome import Outcome, Reply

REPLY_BODY_BYTES = 64 << 10
"""How much of an answer's body a letter keeps."""
MESSAGE_BYTES = 2048
_HEADER_CHARACTERS = 1024

STATUS = MappingProxyType(
    {
        400: Failure.HTTP_BAD_REQUEST,
        401: Failure.HTTP_UNAUTHORIZED,
        403: Failure.HTTP_FORBIDDEN,
        404: Failure.HTTP_NOT_FOUND,
        405: Failure.HTTP_REFUSED,
        408: Failure.HTTP_TIMEOUT,
        409: Failure.HTTP_CONFLICT,
        413: Failure.HTTP_REFUSED,
        415: Failure.HTTP_REFUSED,
        422: Failure.HTTP_UNPROCESSABLE,
        425: Failure.HTTP_TOO_EARLY,
        429: Failure.HTTP_TOO_MANY,
        500: Failure.HTTP_INTERNAL,
        501: Failure.HTTP_NOT_IMPLEMENTED,
        502: Failure.HTTP_BAD_GATEWAY,
        503: Failure.HTTP_UNAVAILABLE,
        504: Failure.HTTP_GATEWAY_TIMEOUT,
        505: Failure.HTTP_NOT_IMPLEMENTED,  # as 501: no repeat will change the vendor's mind
    }
)
FAMILY = MappingProxyType({3: Failure.HTTP_REDIRECT, 4: Failure.HTTP_OTHER_CLIENT, 5: Failure.HTTP_OTHER_SERVER})
FAULTS = MappingProxyType(
    {
        Fault.BLOCKED: Failure.EGRESS_BLOCKED,
        Fault.DNS: Failure.EGRESS_DNS,
        Fault.URL: Failure.RENDER_INVALID,
        Fault.REFUSED: Failure.CONNECT_REFUSED,
        Fault.CONNECT_TIMEOUT: Failure.CONNECT_TIMEOUT,
        Fault.TLS: Failure.CONNECT_TLS,
        Fault.LATE: Failure.SEND_WORKER_LOST,
        Fault.SEND_RESET: Failure.SEND_RESET,
        Fault.RECEIVE_RESET: Failure.RECEIVE_RESET,
        Fault.RECEIVE_TIMEOUT: Failure.RECEIVE_TIMEOUT,
        Fault.GARBAGE: Failure.RECEIVE_GARBAGE,
    }
)
_REFUSALS = MappingProxyType(
    {
        RenderRefused: Failure.RENDER_INVALID,
        EgressRefused: Failure.EGRESS_BLOCKED,
        Unavailable: Failure.TOKEN_CONFIG,
    }
)
CUTS = MappingProxyType(
    {
        Cut.WIRE: (Failure.RECEIVE_OVERSIZE, "The vendor's answer is larger than the gateway accepts."),
        Cut.OVERSIZE: (Failure.RECEIVE_OVERSIZE, "The vendor's answer unpacks to more than the gateway accepts."),
        Cut.ENCODING: (Failure.SCHEMA_UNDECODABLE, "The vendor's answer is packed in a way that cannot be unpacked."),
        Cut.LOST: (Failure.RECEIVE_TRUNCATED, "The vendor closed the connection in the middle of its answer."),
        Cut.DEADLINE: (Failure.RECEIVE_TIMEOUT, "The vendor began to answer but did not finish in time."),
    }
)
KEPT_HEADERS = re.compile(
    r"date|retry-after(-ms)?|(x-)?ratelimit.*|deprecation|sunset|content-type|cf-ray|([a-z0-9-]*-)?(request|correlation)-?id"
)
UNCONFIRMED_S = 1.0
"""Until a call whose mark no replica confirmed is tried again."""
_JSON = re.compile(r"(application|text)/([a-z0-9.+-]*\+)?json")
_TEXT = re.compile(r"text/.*|application/([a-z0-9.+-]*\+)?xml|application/x-www-form-urlencoded")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252"})
# Not the vendor's own words: those are data, and stay in the letter.
_PHRASES = {status.value: f" {status.phrase}" for status in HTTPStatus}
_BOM = b"\xef\xbb\xbf"


def classify(ending: Exchange | Refusal, op_class: OperationClass, rules: RateRules, *, now: float) -> Outcome:
    """Return what `ending` comes to for an operation of this class; `rules` are its connector's, `now` is epoch seconds."""
    outcome = _judged(ending, rules, now)
    if op_class is OperationClass.SAFE and outcome.effect is not Effect.NOT_EXECUTED:
        return msgspec.structs.replace(outcome, effect=Effect.NOT_EXECUTED)
    return outcome


def _judged(ending: Exchange | Refusal, rules: RateRules, now: float) -> Outcome:
    match ending:
        case Answered():
            return _answered(ending, read_rates(ending, rules, now))
        case NotSent():
            spends = ending.fault is not Fault.LATE
            return _unsent(FAULTS[ending.fault], ending.message, took=ending.duration_s, spends_attempt=spends)
        case Ambiguous():
            return _in_doubt(ending)
        case LeaseLost():
            message = "The lease was lost before anything was sent; another worker has the call."
            return _unsent(Failure.SEND_WORKER_LOST, message, spends_attempt=False)
        case Unconfirmed():
            message = "No replica confirmed that it has the mark of this attempt, so nothing was sent."
            outcome = _unsent(Failure.PERSIST_MARK, message, spends_attempt=False)
            return msgspec.structs.replace(outcome, held=True, retry_after_s=UNCONFIRMED_S)
        case RenderRefused() | EgressRefused() | Unavailable():
            return _unsent(_REFUSALS[type(ending)], ending.message)


def _answered(answer: Answered, rates: Rates) -> Outcome:
    if 200 <= answer.status <= 299 and not rates.throttled:
        return _completed(answer, rates)
    return _refused_by_vendor(answer, rates)


def _completed(answer: Answered, rates: Rates) -> Outcome:
    """The status line says it ran; the body only decides whether anybody can read what came of it."""
    # A Retry-After here is about something else, such as when to ask for the result.
    rates = Rates(rates.readings)
    if answer.truncated is not None:
        failure, message = CUTS[answer.truncated]
        return _answer_failed(answer, failure, message, rates, effect=Effect.EXECUTED)
    try:
        result = _result(answer)
    except Undecodable as error:
        message = f"The vendor's answer says JSON, but it is not: {error.message}."
        return _answer_failed(answer, Failure.SCHEMA_UNDECODABLE, message, rates, effect=Effect.EXECUTED)
    return Outcome(
        effect=Effect.EXECUTED,
        status=answer.status,
        result=result,
        duration_ms=_milliseconds(answer.duration_s),
        bytes_out=answer.bytes_out,
        rates=rates.readings,
    )


def _result(answer: Answered) -> Any:
    body = answer.body
    if not body or answer.status in {204, 205}:
        return None
    declared = answer.headers.get("content-type", "")
    kind, _, parameters = declared.partition(";")
    kind = kind.strip().lower()
    if not kind or _JSON.fullmatch(kind):
        try:
            return decode(body.removeprefix(_BOM), max_bytes=len(body))
        except Undecodable:
            if kind:
                raise
    if _TEXT.fullmatch(kind) and (text := _readable(body, parameters)) is not None:
        return {"content_type": _plain(declared), "text": text}
    return {"content_type": _plain(declared), "base64": base64.b64encode(body).decode()}


def _readable(body: bytes, parameters: str) -> str | None:
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    # Python knows codecs that are no charsets at all (rot13, unicode_escape): only these are honoured.
    if charset not in _CHARSETS:
        return None
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None


def _refused_by_vendor(answer: Answered, rates: Rates) -> Outcome:
    failure = STATUS.get(answer.status) or FAMILY.get(answer.status // 100) or Failure.HTTP_UNRECOGNISED
    message = f"The vendor answered {answer.status}{_PHRASES.get(answer.status, '')}"
    if rates.throttled or (rates.limited and answer.status == HTTPStatus.FORBIDDEN):
        failure = Failure.HTTP_TOO_MANY
        message += " because of a rate limit"
    wait = rates.retry_after_s
    message += "." if wait is None else f" and asks to wait {wait:g} s."
    return _answer_failed(answer, failure, message, rates, effect=FACTS[failure].effect)


def _answer_failed(answer: Answered, failure: Failure, message: str, rates: Rates, *, effect: Effect) -> Outcome:
    return Outcome(
        effect=effect,
        failure=failure,
        message=_plain(message),
        status=answer.status,
        reply=kept(answer),
        retry_after_s=rates.retry_after_s,
        spends_attempt=not rates.limited,
        duration_ms=_milliseconds(answer.duration_s),
        bytes_out=answer.bytes_out,
        rates=rates.readings,
        limited=rates.limited,
    )


def kept(answer: Answered) -> Reply:
    """Return what a letter keeps of an answer."""
    return Reply(
        status=answer.status,
        headers={name: _plain(value)[:_HEADER_CHARACTERS] for name, value in _kept(answer.headers).items()},
        body=answer.body[:REPLY_BODY_BYTES],
        truncated=answer.truncated is not None or len(answer.body) > REPLY_BODY_BYTES,
    )


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if KEPT_HEADERS.fullmatch(name)}


def _in_doubt(ending: Ambiguous) -> Outcome:
    return Outcome(
        effect=Effect.UNKNOWN,
        failure=FAULTS[ending.fault],
        message=_plain(ending.message),
        duration_ms=_milliseconds(ending.duration_s),
        bytes_out=ending.bytes_out,
    )


def _unsent(failure: Failure, message: str, *, took: float = 0.0, spends_attempt: bool = True) -> Outcome:
    """Nothing reached the vendor, whatever the reason."""
    return Outcome(
        effect=Effect.NOT_EXECUTED,
        failure=failure,
        message=_plain(message),
        spends_attempt=spends_attempt,
        duration_ms=_milliseconds(took),
    )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _plain(text: str) -> str:
    """Return `text` fit for a person's terminal: what does not print is escaped, and it ends somewhere."""
    if text.isprintable() and len(text) <= MESSAGE_BYTES // 4:
        return text
    escaped = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    ).encode("utf-8", "backslashreplace")
    return escaped[:MESSAGE_BYTES].decode("utf-8", "ignore")
