"""Reading back: what to ask a vendor about a call whose answer was lost, and what its answer proves. Pure.

Finding it proves at once that it ran. Not finding it proves something only where the vendor was asked for what it was told, and
answered with an empty list: who takes a page for the list, or another shape for nothing, would send a second time what has run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.arguments import PLACEHOLDER
from connectors.declared import Operation, Readback
from connectors.rates.bodies import pointed
from schemas.codec import encode
from schemas.contracts.finding import Level
from schemas.failure import FACTS
from schemas.outcome import Outcome
from schemas.tool_call import ToolCall

KEY: Final = "idempotency_key"
"""The placeholder that is no argument: the key that the vendor was sent, or without a header for it, the caller's own."""

_MORE = frozenset(
    {
        *(
            "next",
            "next_page",
            "next_token",
            "nexttoken",
            "next_page_token",
            "nextpagetoken",
            "next_cursor",
            "nextcursor",
            "next_url",
            "nextlink",
        ),
        *(
            "@odata.nextlink",
            "lastevaluatedkey",
            "has_more",
            "hasmore",
            "has_next",
            "hasnextpage",
            "is_truncated",
            "istruncated",
        ),
    }
)
"""Names under which vendors say that there are further pages, in lower case."""

_ENVELOPES = frozenset(
    {"links", "_links", "paging", "pagination", "page_info", "pageinfo", "meta", "response_metadata"}
)
"""Where they put these names, in lower case, when not beside the list."""


@dataclass(frozen=True, slots=True)
class Found:
    """It ran; this is what the vendor shows of it."""

    item: Any


@dataclass(frozen=True, slots=True)
class Absent:
    """The vendor has no such thing."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The answer proves nothing; `passing` says that the next one may."""

    why: str
    passing: bool


Seen = Found | Absent | Unclear


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and by what the call is recognised."""

    arguments: dict[str, Any]
    where: dict[str, str]


def question(call: ToolCall, operation: Operation, readback: Readback) -> Question | Unclear:
    """Return what to ask about `call`."""
    names = _names(readback.where) | _names(readback.arguments)
    values = {name: call.arguments.get(name) for name in names - {KEY}}
    if KEY in names:
        values[KEY] = _key(call, operation)
    missing = sorted(name for name, value in values.items() if value is None or value == "")
    if missing == [KEY]:
        return Unclear("the vendor was never told the idempotency key", passing=False)
    if missing or not names:
        return Unclear(f"the call does not say {' and '.join(missing) or 'what tells it from others'}", passing=False)
    where = {pointer: _text(_filled(value, values)) for pointer, value in readback.where.items()}
    return Question(
        arguments={name: _filled(value, values) for name, value in readback.arguments.items()},
        where=where,
    )


def judge(outcome: Outcome, asked: Question, readback: Readback) -> Seen:
    """Return what the answer to a question proves."""
    if outcome.status in readback.absent_on:
        return Absent()
    if outcome.failure is not None:
        return Unclear(outcome.message or outcome.failure, passing=FACTS[outcome.failure].retryable)
    things = pointed(outcome.result, readback.path)
    listed = things if isinstance(things, list) else [things]
    found = [one for one in listed if isinstance(one, dict) and _same(one, asked.where)]
    if len(found) > 1:
        return Unclear(f"the vendor shows {len(found)} that could be it", passing=False)
    return Found(found[0]) if found else _missing(outcome, things)


def _missing(outcome: Outcome, things: Any) -> Seen:
    """Say whether not to have found it proves anything: only an empty list has no further page on which it could stand."""
    whys = (
        (
            any(one.level is Level.BREAKING for one in outcome.findings),
            "the vendor's answer is not as its contract says",
        ),
        (not isinstance(things, list), "there is no list where one should be"),
        (bool(things), "the vendor lists others, and the call may stand on a further page"),
        (_goes_on(outcome.result), "the list has further pages"),
    )
    return next((Unclear(why, passing=False) for holds, why in whys if holds), Absent())


def _same(item: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    return all(_text(pointed(item, pointer)) == wanted for pointer, wanted in where.items())


def _goes_on(result: Any) -> bool:
    if not isinstance(result, dict):
        return False
    envelopes = [inner for name, inner in result.items() if name.lower() in _ENVELOPES and isinstance(inner, dict)]
    return any(name.lower() in _MORE and value for one in (result, *envelopes) for name, value in one.items())


def _key(call: ToolCall, operation: Operation) -> str | None:
    if operation.idempotency_header is not None:
        return call.vendor_key
    # The caller's own key is only known to the vendor if the caller also gave it as an argument.
    return call.key if call.key in call.arguments.values() else None


def _names(templates: Any) -> set[str]:
    match templates:
        case str():
            return set(PLACEHOLDER.findall(templates))
        case dict():
            return _all(templates.values())
        case list() | tuple():
            return _all(templates)
        case _:
            return set()


def _all(values: Iterable[Any]) -> set[str]:
    return {name for value in values for name in _names(value)}


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    match template:
        case str():
            whole = PLACEHOLDER.fullmatch(template)
            return values[whole[1]] if whole else PLACEHOLDER.sub(lambda one: _text(values[one[1]]), template)
        case dict():
            return {name: _filled(value, values) for name, value in template.items()}
        case list() | tuple():
            return [_filled(value, values) for value in template]
        case _:
            return template


def _text(value: Any) -> str:
    """Write a value so that 5 and "5" are the same: a vendor's type must not make it look absent."""
    return value if isinstance(value, str) else encode(value).decode()
