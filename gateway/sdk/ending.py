"""How a call ended, as an HTTP client is told: a response, or one of the exceptions of httpx. Pure.

A response is the vendor's own wherever the vendor answered. The gateway's own no has a JSON body and a header that says so, and
every response that is no success asks Stainless-made SDKs not to repeat it: repeating is the gateway's work, and was done.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from connectors.classify import kept
from connectors.exchange import Answered
from schemas.codec import encode
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.lifecycle import CallState

CALL = "sluice-call"
"""Header: which call this is the answer to."""

REFUSED = "sluice-refused"
"""Header of a response that is not the vendor's: the failure class."""

_NO_REPEAT = {"x-should-retry": "false"}
_JSON = {"content-type": "application/json"}


class Kind(StrEnum):
    """Exceptions of httpx and httpx2, by their name."""

    CONNECT = "ConnectError"
    CONNECT_TIMEOUT = "ConnectTimeout"
    POOL_TIMEOUT = "PoolTimeout"
    WRITE = "WriteError"
    READ = "ReadError"
    READ_TIMEOUT = "ReadTimeout"
    PROTOCOL = "RemoteProtocolError"


class Broken(Exception):  # noqa: N818 - httpx names it
    """No response can be given; each transport raises its own library's exception of this kind."""

    def __init__(self, kind: Kind, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.in_doubt = in_doubt
        """The vendor may have done what was asked: a repeat could be a second effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    in_doubt: bool = False
    """As with `Broken`."""


BROKEN: Mapping[Failure, Kind] = MappingProxyType(
    {
        Failure.EGRESS_BLOCKED: Kind.CONNECT,
        Failure.EGRESS_DNS: Kind.CONNECT,
        Failure.CONNECT_REFUSED: Kind.CONNECT,
        Failure.CONNECT_TLS: Kind.CONNECT,
        Failure.CONNECT_TIMEOUT: Kind.CONNECT_TIMEOUT,
        Failure.SEND_RESET: Kind.WRITE,
        Failure.SEND_WORKER_LOST: Kind.READ,
        Failure.RECEIVE_TIMEOUT: Kind.READ_TIMEOUT,
        Failure.RECEIVE_RESET: Kind.READ,
        Failure.RECEIVE_TRUNCATED: Kind.READ,
        Failure.RECEIVE_OVERSIZE: Kind.PROTOCOL,
        Failure.RECEIVE_GARBAGE: Kind.PROTOCOL,
        Failure.SCHEMA_BREAKING: Kind.PROTOCOL,
        Failure.SCHEMA_UNDECODABLE: Kind.PROTOCOL,
        Failure.BREAKER_OPEN: Kind.POOL_TIMEOUT,
        Failure.PERSIST_MARK: Kind.POOL_TIMEOUT,
        Failure.TOKEN_NEEDS_CONSENT: Kind.POOL_TIMEOUT,
        Failure.TOKEN_IN_DOUBT: Kind.POOL_TIMEOUT,
        Failure.ADMISSION_DEADLINE: Kind.POOL_TIMEOUT,
        Failure.DEADLINE_PASSED: Kind.POOL_TIMEOUT,
        Failure.CANCELLED: Kind.POOL_TIMEOUT,
    }
)
"""What a failure without an answer is to an HTTP client; one that is missing here is a refusal of the gateway."""


def reply(data: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], echo: Answered | None, held: str = "") -> Reply:
    """Return the response to a call that ended, or raise `Broken`.

    `data` is that of its result event, `tried` are its attempts, `held` says what it waited for when it was withdrawn. `echo` is
    the vendor's last answer as it came: without it a result is written anew, and of a refusal only the status is left, as its
    body is sealed in the letter.
    """
    call, status, error = data["call"], data["http_status"], data["error"]
    if data["state"] == CallState.COMPLETED:
        return _whole(call, echo) if echo else _rewritten(call, status, data["result"])
    in_doubt = data["effect"] != Effect.NOT_EXECUTED
    failure, told = Failure(error["class"]), _told(error, call)
    if status is not None and status >= 300:
        if echo is not None:
            return _whole(call, echo, in_doubt=in_doubt)
        return refusal(status, failure, told, call=call, in_doubt=in_doubt)
    if failure in BROKEN:
        raise Broken(_kind(failure, tried, in_doubt=in_doubt), f"{told} {held}".rstrip(), in_doubt=in_doubt)
    return refusal(502, failure, told, call=call, in_doubt=in_doubt)


def _kind(failure: Failure, tried: Sequence[Mapping[str, Any]], *, in_doubt: bool) -> Kind:
    """Return the exception; of a call that was stopped between attempts, the one that says what the vendor may have seen."""
    kind = BROKEN[failure]
    if kind is not Kind.POOL_TIMEOUT or not tried:
        return kind
    if in_doubt:
        return Kind.READ_TIMEOUT
    last = BROKEN.get(tried[-1]["outcome"])
    return last if last in {Kind.CONNECT, Kind.CONNECT_TIMEOUT} else kind


def refusal(
    status: int, failure: Failure | str, message: str, *, call: str | None = None, in_doubt: bool = False
) -> Reply:
    """Return the gateway's own no, in the form in which most vendors write theirs."""
    body = {"error": {"message": message, "type": "sluice", "code": str(failure)}}
    headers = {**_JSON, **_NO_REPEAT, REFUSED: str(failure), **({CALL: call} if call else {})}
    return Reply(status=status, headers=headers, body=encode(body), in_doubt=in_doubt)


def _whole(call: str, echo: Answered, *, in_doubt: bool = False) -> Reply:
    shown = {**kept(echo).headers, CALL: call, **({} if echo.status < 300 else _NO_REPEAT)}
    return Reply(status=echo.status, headers=shown, body=echo.body, in_doubt=in_doubt)


def _rewritten(call: str, status: int | None, result: Any) -> Reply:
    headers = {**_JSON, CALL: call}
    if result is None:
        return Reply(status=status or 204, headers={CALL: call}, body=b"")
    if isinstance(result, dict) and result.keys() in ({"content_type", "text"}, {"content_type", "base64"}):
        text = result.get("text")
        body = base64.b64decode(result["base64"]) if text is None else str(text).encode()
        return Reply(status=status or 200, headers={**headers, "content-type": result["content_type"]}, body=body)
    return Reply(status=status or 200, headers=headers, body=encode(result))


def _told(error: Mapping[str, Any], call: str) -> str:
    action = str(error["action"]).replace("{letter}", error["dead_letter"] or "").replace("{call}", call)
    return f"{error['message']} (call {call}, {error['class']}) {action}"
