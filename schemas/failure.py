"""The closed failure taxonomy: `stage.class`, one row of facts each. Nothing outside this table can go wrong.

`effect` is what the failure alone proves; a `safe` operation overrides it with `not_executed` (see classify).
An unrecognised wire string fails decoding: new failures need a row here, not an `if` somewhere else.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from schemas.effect import Effect


class Failure(StrEnum):
    """Every way a call can fail, as it appears in `error.class`."""

    DECODE_ENCODING = "decode.encoding"
    DECODE_JSON = "decode.json"
    DECODE_DEPTH = "decode.depth"
    DECODE_ENVELOPE = "decode.envelope"
    INGEST_OVERSIZE = "ingest.oversize"
    INGEST_MALFORMED = "ingest.malformed"
    INGEST_AUTH = "ingest.auth"
    INGEST_SCOPE = "ingest.scope"
    INGEST_UNKNOWN_TOOL = "ingest.unknown_tool"
    INGEST_UNKNOWN_CONNECTION = "ingest.unknown_connection"
    INGEST_ARGUMENTS = "ingest.arguments"
    INGEST_DUPLICATE_CONFLICT = "ingest.duplicate_conflict"
    APPROVAL_DENIED = "approval.denied"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_STALE = "approval.stale"
    ADMISSION_DEADLINE = "admission.deadline"
    ADMISSION_QUOTA = "admission.quota"
    ADMISSION_QUEUE_FULL = "admission.queue_full"
    DEADLINE_PASSED = "deadline.passed"
    CANCELLED = "cancelled.by_caller"
    TOKEN_NEEDS_CONSENT = "token.needs_consent"  # noqa: S105 - the name of a failure
    TOKEN_IN_DOUBT = "token.in_doubt"  # noqa: S105 - the name of a failure
    TOKEN_CONFIG = "token.config"  # noqa: S105 - the name of a failure
    RENDER_INVALID = "render.invalid"
    EGRESS_BLOCKED = "egress.blocked"
    EGRESS_DNS = "egress.dns"
    CONNECT_REFUSED = "connect.refused"
    CONNECT_TIMEOUT = "connect.timeout"
    CONNECT_TLS = "connect.tls"
    SEND_RESET = "send.reset"
    SEND_WORKER_LOST = "send.worker_lost"
    RECEIVE_TIMEOUT = "receive.timeout"
    RECEIVE_RESET = "receive.reset"
    RECEIVE_TRUNCATED = "receive.truncated"
    RECEIVE_OVERSIZE = "receive.oversize"
    RECEIVE_GARBAGE = "receive.garbage"
    HTTP_REDIRECT = "http.3xx"
    HTTP_BAD_REQUEST = "http.400"
    HTTP_UNAUTHORIZED = "http.401"
    HTTP_FORBIDDEN = "http.403"
    HTTP_NOT_FOUND = "http.404"
    HTTP_TIMEOUT = "http.408"
    HTTP_CONFLICT = "http.409"
    HTTP_UNPROCESSABLE = "http.422"
    HTTP_TOO_EARLY = "http.425"
    HTTP_TOO_MANY = "http.429"
    HTTP_REFUSED = "http.refused"
    HTTP_OTHER_CLIENT = "http.4xx"
    HTTP_INTERNAL = "http.500"
    HTTP_NOT_IMPLEMENTED = "http.501"
    HTTP_BAD_GATEWAY = "http.502"
    HTTP_UNAVAILABLE = "http.503"
    HTTP_GATEWAY_TIMEOUT = "http.504"
    HTTP_OTHER_SERVER = "http.5xx"
    HTTP_UNRECOGNISED = "http.unrecognised"
    SCHEMA_BREAKING = "schema.breaking"
    SCHEMA_UNDECODABLE = "schema.undecodable"
    READBACK_UNDECIDED = "readback.undecided"
    BREAKER_OPEN = "breaker.open"
    PERSIST_MARK = "persist.mark"
    PERSIST_BLOB = "persist.blob"
    INTERNAL_BUG = "internal.bug"
    POISON_CRASH_LOOP = "poison.crash_loop"


class Blame(StrEnum):
    """Who has to change something for this to stop."""

    AGENT = "agent"
    VENDOR = "vendor"
    OPERATOR = "operator"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Facts:
    """The consequences of one failure."""

    effect: Effect
    retryable: bool
    blame: Blame
    trips_breaker: bool
    action: str
    """The next step in plain words; `{call}`, `{letter}` and `{tool}` are filled in where it is shown."""


_NOT, _RAN, _UNKNOWN = Effect.NOT_EXECUTED, Effect.EXECUTED, Effect.UNKNOWN
_AGENT, _VENDOR, _OPERATOR, _GATEWAY = Blame.AGENT, Blame.VENDOR, Blame.OPERATOR, Blame.GATEWAY
_FIND_OUT = "Find out whether it ran, then: sluice dlq resolve {letter} --done | --not-done"
_FIX_CALL = "Correct the call and publish it again under a new key."
_REPLAY = "When the vendor is well again: sluice dlq replay {letter}"
_READ_LETTER = "Look at what came back: sluice dlq show {letter}"


def _agent(action: str) -> Facts:
    return Facts(_NOT, retryable=False, blame=_AGENT, trips_breaker=False, action=action)


def _operator(action: str, *, retryable: bool = False) -> Facts:
    return Facts(_NOT, retryable=retryable, blame=_OPERATOR, trips_breaker=False, action=action)


def _vendor(effect: Effect, action: str, *, retryable: bool = True, trips: bool = True) -> Facts:
    return Facts(effect, retryable=retryable, blame=_VENDOR, trips_breaker=trips, action=action)


FACTS = MappingProxyType(
    {
        Failure.DECODE_ENCODING: _agent("Publish UTF-8. The raw bytes are in letter {letter}."),
        Failure.DECODE_JSON: _agent("Publish strict JSON (no NaN, no comments). The raw bytes are in letter {letter}."),
        Failure.DECODE_DEPTH: _agent("Nest arguments less deeply. The raw bytes are in letter {letter}."),
        Failure.DECODE_ENVELOPE: _agent(
            "Publish a CloudEvent of type tool.call.requested. The raw bytes are in letter {letter}."
        ),
        Failure.INGEST_OVERSIZE: _agent("Send less, or raise SLUICE_MAX_EVENT_BYTES."),
        Failure.INGEST_MALFORMED: _agent(_FIX_CALL),
        Failure.INGEST_AUTH: _agent("Send `Authorization: Bearer <key>` of a declared Agent or Operator."),
        Failure.INGEST_SCOPE: _agent("Ask an operator to add the tool to the agent's `allow` list."),
        Failure.INGEST_UNKNOWN_TOOL: _agent("List the tools: sluice connectors ls"),
        Failure.INGEST_UNKNOWN_CONNECTION: _agent("List the connections: sluice connections ls"),
        Failure.INGEST_ARGUMENTS: _agent(
            "Correct the arguments; see the tool's input: sluice connectors explain {tool}"
        ),
        Failure.INGEST_DUPLICATE_CONFLICT: _agent("This key was used with another payload; use a new idempotency_key."),
        Failure.APPROVAL_DENIED: _operator(
            "Ask the reviewer why; publish again under a new key if it should run after all."
        ),
        Failure.APPROVAL_EXPIRED: _operator("Nobody decided in time; publish again under a new key."),
        Failure.APPROVAL_STALE: _operator("What was approved is not what would run; publish again under a new key."),
        Failure.ADMISSION_DEADLINE: _agent("The deadline cannot be met; publish with a later one."),
        Failure.ADMISSION_QUOTA: _operator("The quota is used up; wait for its reset or raise it.", retryable=True),
        Failure.ADMISSION_QUEUE_FULL: _operator(
            "The lane is full; publish again later, or raise its bound.", retryable=True
        ),
        Failure.DEADLINE_PASSED: _agent("The call did not start in time; publish again with a later deadline."),
        Failure.CANCELLED: _agent("Nothing to do: the caller cancelled it before it started."),
        Failure.TOKEN_NEEDS_CONSENT: _operator("Renew the consent: sluice connections authorize", retryable=True),
        Failure.TOKEN_IN_DOUBT: _operator("Check the credential: sluice connections check", retryable=True),
        Failure.TOKEN_CONFIG: _operator("Mend the connection's secrets: sluice doctor"),
        Failure.RENDER_INVALID: _agent("The arguments cannot be put into the request; correct them and publish again."),
        Failure.EGRESS_BLOCKED: _operator(
            "Add the host to the connector's egress.allow_hosts if it is meant to be called."
        ),
        Failure.EGRESS_DNS: _vendor(_NOT, _REPLAY),
        Failure.CONNECT_REFUSED: _vendor(_NOT, _REPLAY),
        Failure.CONNECT_TIMEOUT: _vendor(_NOT, _REPLAY),
        Failure.CONNECT_TLS: _vendor(_NOT, "Check the vendor's certificate, then: sluice dlq replay {letter}"),
        Failure.SEND_RESET: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.SEND_WORKER_LOST: Facts(
            _UNKNOWN, retryable=True, blame=_GATEWAY, trips_breaker=False, action=_FIND_OUT
        ),
        Failure.RECEIVE_TIMEOUT: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.RECEIVE_RESET: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.RECEIVE_TRUNCATED: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.RECEIVE_OVERSIZE: _vendor(_UNKNOWN, _READ_LETTER, retryable=False, trips=False),
        Failure.RECEIVE_GARBAGE: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_REDIRECT: _vendor(
            _UNKNOWN, "The vendor moved; correct base_url or path.", retryable=False, trips=False
        ),
        Failure.HTTP_BAD_REQUEST: _agent("The vendor refused the request; read its answer: sluice dlq show {letter}"),
        Failure.HTTP_UNAUTHORIZED: _operator(
            "The vendor refused the credential; mend the connection's secrets, then: sluice dlq replay {letter}"
        ),
        Failure.HTTP_FORBIDDEN: _operator(
            "The credential lacks a right at the vendor; grant it, then: sluice dlq replay {letter}"
        ),
        Failure.HTTP_NOT_FOUND: _agent("The vendor does not know the object; check the arguments."),
        Failure.HTTP_TIMEOUT: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_CONFLICT: _vendor(_UNKNOWN, _FIND_OUT, trips=False),
        Failure.HTTP_UNPROCESSABLE: _agent(
            "The vendor refused the arguments; read its answer: sluice dlq show {letter}"
        ),
        Failure.HTTP_TOO_EARLY: _vendor(_NOT, _REPLAY, trips=False),
        Failure.HTTP_TOO_MANY: _vendor(_NOT, _REPLAY, trips=False),
        Failure.HTTP_REFUSED: _vendor(_NOT, _READ_LETTER, retryable=False, trips=False),
        Failure.HTTP_OTHER_CLIENT: _vendor(_UNKNOWN, _FIND_OUT, retryable=False, trips=False),
        Failure.HTTP_INTERNAL: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_NOT_IMPLEMENTED: _vendor(_UNKNOWN, _FIND_OUT, retryable=False, trips=False),
        Failure.HTTP_BAD_GATEWAY: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_UNAVAILABLE: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_GATEWAY_TIMEOUT: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_OTHER_SERVER: _vendor(_UNKNOWN, _FIND_OUT),
        Failure.HTTP_UNRECOGNISED: _vendor(_UNKNOWN, _FIND_OUT, retryable=False),
        Failure.SCHEMA_BREAKING: _vendor(_RAN, _READ_LETTER, retryable=False, trips=False),
        Failure.SCHEMA_UNDECODABLE: _vendor(_RAN, _READ_LETTER, retryable=False, trips=False),
        Failure.READBACK_UNDECIDED: _vendor(_UNKNOWN, _FIND_OUT, trips=False),
        Failure.BREAKER_OPEN: _vendor(
            _NOT, "Nothing to do: the call waits until the vendor is well again.", trips=False
        ),
        Failure.PERSIST_MARK: Facts(
            _NOT,
            retryable=True,
            blame=_GATEWAY,
            trips_breaker=False,
            action="Nothing to do: the call waits until a replica of Redis confirms what is about to be sent.",
        ),
        Failure.PERSIST_BLOB: _operator("Free disk space or mend permissions of SLUICE_DATA.", retryable=True),
        Failure.INTERNAL_BUG: Facts(_UNKNOWN, retryable=False, blame=_GATEWAY, trips_breaker=False, action=_FIND_OUT),
        Failure.POISON_CRASH_LOOP: Facts(
            _UNKNOWN, retryable=False, blame=_GATEWAY, trips_breaker=False, action=_FIND_OUT
        ),
    }
)
