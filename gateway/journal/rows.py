"""From what the topics tell to rows: reading entries and folding them. Pure.

A fold gives the same row whatever the order of a call's events and however often each comes: identity is filled in once,
what changes is taken from the highest `seq`, and the result is the result.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from gateway.policy.scope import agent_of
from schemas.codec import encode
from schemas.dead_letter import DEAD_LETTERED
from schemas.lifecycle import TERMINAL
from schemas.moment import microseconds
from schemas.tool_call import TENANT
from schemas.trace import trace_id

Row = dict[str, Any]

CALL_EVENT = "tool.call."
LETTER_CHANGED = "letter.changed"
"""What becomes of a letter: `data` has letter, call, status, by, reason, replay, at."""

LONGEST_WORD = 64
"""Characters of a word that can be searched for."""

_WORD = re.compile(r"[^\W_]+")
_STATUS_RANK = {"open": 0, "replaying": 1}
_FINAL = 2

IDENTITY = (
    *("tenant", "agent", "session", "tool", "connector", "connection", "key", "request_source", "request_id"),
    *("op_class", "priority", "confidence", "trace_id", "accepted_us", "deadline_us", "replay_of", "root", "ended_us"),
)
"""Told once or told alike every time."""
NEWEST = ("state", "effect", "error_class", "message", "fingerprint", "dead_letter", "attempts")
"""Told anew by each event; the highest `seq` is right."""
RESULT = ("http_status", "queued_ms", "duration_ms", "contract", "summary", "result")
"""Told by the result alone."""
SEARCHED = (
    *("call", "tool", "agent", "session", "connection", "key", "request_id", "trace_id", "replay_of", "root"),
    *("error_class", "message", "fingerprint", "dead_letter", "summary"),
)

_REPEATED = frozenset({"call", "seq", "tool", "connection", "agent", "session", "idempotency_key", "confidence"})
"""Fields of an event that its call's row has already."""

_LINEAGE = frozenset({"replay_of", "root"})
"""Its call's row has these too, but a timeline tells of them; of most calls there is nothing to tell."""


class _Envelope(msgspec.Struct, kw_only=True):
    type: str
    id: str
    time: datetime
    traceparent: str | None = None
    subject: str | None = None
    data: dict[str, Any]


_decode = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one entry says: at most one row of each kind, each a part of the whole."""

    call: Row | None = None
    event: Row | None = None
    letter: Row | None = None
    answered: str | None = None
    """The call whose result this is, when it is kept whole: the journal can answer for it."""


def read(raw: bytes, *, most_bytes: int) -> Told:
    """Read one entry of any of the three topics; raises `ValueError` when it is no event. A larger result is left out."""
    try:
        event = _decode(raw)
        if event.time.tzinfo is None:
            raise ValueError("its time has no zone")
        return _read(event, most_bytes)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an event of ours: {type(error).__name__}: {error}") from error


def _read(event: _Envelope, most_bytes: int) -> Told:
    data, time_us = event.data, microseconds(event.time)
    if event.type == DEAD_LETTERED:
        return Told(letter=_letter(event))
    if event.type == LETTER_CHANGED:
        return Told(event=_event(event, time_us), letter=_changed(data, time_us))
    if event.type.startswith(CALL_EVENT):
        if isinstance(data.get("seq"), int):
            return Told(call=_lifecycle(event, time_us), event=_event(event, time_us))
        row, whole = _result(event, most_bytes)
        return Told(call=row, answered=row["call"] if whole else None)
    return Told(event=_event(event, time_us))


def _event(event: _Envelope, time_us: int) -> Row:
    data = event.data
    facts = data if "seq" not in data else {name: value for name, value in data.items() if _is_told(name, value)}
    return {
        "id": event.id,
        "call": data.get("call"),
        "seq": data.get("seq"),
        "type": event.type,
        "time_us": time_us,
        "data": _json(facts),
    }


def _is_told(name: str, value: Any) -> bool:
    return name not in _REPEATED and (value is not None or name not in _LINEAGE)


def _lifecycle(event: _Envelope, time_us: int) -> Row:
    data = event.data
    attempt, error, request = data.get("attempt") or {}, data.get("error") or {}, data.get("request") or {}
    outcome, state = attempt.get("outcome"), data["state"]
    deadline = data.get("deadline")
    row = {
        **_named(data),
        "agent": data.get("agent"),
        "request_source": request.get("source"),
        "request_id": request.get("id"),
        "op_class": data.get("class"),
        "priority": data.get("priority"),
        "confidence": data.get("confidence"),
        "trace_id": trace_id(event.traceparent),
        "accepted_us": time_us if data["seq"] == 1 else None,
        "deadline_us": microseconds(datetime.fromisoformat(deadline)) if deadline else None,
        "replay_of": data.get("replay_of"),
        "root": data.get("root"),
        "seq": data["seq"],
        "state": state,
        "effect": data.get("effect") or attempt.get("effect"),
        "error_class": error.get("class") or (outcome if outcome != "completed" else None),
        "message": error.get("message") or attempt.get("message") or None,
        "fingerprint": error.get("fingerprint"),
        "dead_letter": error.get("dead_letter"),
        "attempts": data.get("attempts") or attempt.get("n") or 0,
        "ended_us": time_us if state in TERMINAL else None,
    }
    return _clean(row)


def _named(data: Mapping[str, Any]) -> Row:
    tool = data["tool"]
    return {
        "call": data["call"],
        "tenant": data.get("tenant", TENANT),
        "session": data.get("session"),
        "tool": tool,
        "connector": tool.partition(".")[0],
        "connection": data.get("connection"),
        "key": data.get("idempotency_key"),
    }


def _result(event: _Envelope, most_bytes: int) -> tuple[Row, bool]:
    data, request = event.data, event.data["request"]
    kept = _json(data)
    whole = len(kept.encode()) <= most_bytes
    if not whole:
        kept = _json({**data, "result": None, "result_left_out": True})
    row = _clean(
        {
            **_named(data),
            "agent": agent_of(request["source"]),
            "request_source": request["source"],
            "request_id": request["id"],
            "trace_id": trace_id(event.traceparent),
            "replay_of": data.get("replay_of"),
            **{name: data[name] for name in RESULT if name != "result"},
            # Until the events of the call are read, which say the same and more.
            "seq": 0,
            "state": data["state"],
            "effect": data["effect"],
            "attempts": data["attempts"],
            "ended_us": microseconds(event.time),
            "result": kept,
        }
    )
    return row, whole


def _letter(event: _Envelope) -> Row:
    record = event.data
    identity, operation, failure = record["identity"], record["operation"], record["failure"]
    lifecycle = record["lifecycle"]
    return _clean(
        {
            "letter": identity["dl_id"],
            "call": identity["call"],
            "tenant": identity["tenant_id"],
            "agent": identity["agent_id"],
            "session": identity["session_id"],
            "trace_id": trace_id(identity["traceparent"]),
            **{name: operation[name] for name in ("tool", "connector", "operation", "connection", "op_class")},
            "error_class": failure["class"],
            "message": failure["message"],
            "action": failure["action"],
            "effect": record["effect"]["state"],
            "fingerprint": record["grouping"]["fingerprint"],
            "first_us": microseconds(datetime.fromisoformat(failure["first_at"])),
            "last_us": microseconds(datetime.fromisoformat(failure["last_at"])),
            "root": lifecycle["root_id"],
            "parent": lifecycle["parent_id"],
            "generation": lifecycle["generation"],
            "record": _json(record),
        }
    )


def _changed(data: Mapping[str, Any], time_us: int) -> Row:
    at = data.get("at")
    changed_us = microseconds(datetime.fromisoformat(at)) if isinstance(at, str) else at or time_us
    return _clean(
        {
            "letter": data["letter"],
            "call": data.get("call"),
            "status": data["status"],
            "effect": data.get("effect"),
            # Two changes of one microsecond: the one that is nearer to the end came later.
            "version": changed_us * 10 + _STATUS_RANK.get(data["status"], _FINAL),
            "changed_us": changed_us,
            "decided_by": data.get("by"),
            "reason": data.get("reason"),
            "replay": data.get("replay"),
        }
    )


def fold_call(row: Mapping[str, Any] | None, part: Mapping[str, Any]) -> Row:
    """Join what is known of a call with one more part; in any order, any number of times."""
    base: Row = dict.fromkeys((*IDENTITY, *NEWEST, *RESULT), None) | {"seq": -1}
    base |= {"call": part["call"], **(row or {})}
    for name in (*IDENTITY, *RESULT):
        if base[name] is None:
            base[name] = part.get(name)
    if part["seq"] > base["seq"]:
        base |= {name: part.get(name) for name in (*NEWEST, "seq")}
    base["search"] = searchable(base[name] for name in SEARCHED)
    return base


_DECISION = ("version", "status", "changed_us", "decided_by", "reason", "replay")
_LETTER = (
    *("call", "tenant", "agent", "session", "tool", "connector", "operation", "connection", "op_class", "error_class"),
    *("message", "action", "fingerprint", "trace_id", "first_us", "last_us", "root", "parent", "generation", "record"),
)
_LETTER_SEARCHED = (
    *("letter", "call", "tool", "agent", "session", "connection", "error_class", "message", "fingerprint", "trace_id"),
    *("root", "parent", "reason"),
)
_KNOWN = {"unknown": 1, "not_executed": 2, "executed": 3}
"""Effects of a letter, by how much is known: a person who decides only ever knows more than its record does."""


def fold_letter(row: Mapping[str, Any] | None, part: Mapping[str, Any]) -> Row:
    """Join what is known of a letter with one more part; the newest change of its status is right."""
    base: Row = dict.fromkeys((*_LETTER, *_DECISION, "effect"), None) | {"version": 0, "status": "open"}
    base |= {"letter": part["letter"], **(row or {})}
    for name in _LETTER:
        if base[name] is None:
            base[name] = part.get(name)
    if part.get("version", 0) > base["version"]:
        base |= {name: part.get(name) for name in _DECISION}
    base["effect"] = max(base["effect"], part.get("effect"), key=lambda one: _KNOWN.get(one, 0))
    base["search"] = searchable(base[name] for name in _LETTER_SEARCHED)
    return base


def searchable(values: Iterable[object]) -> str:
    """Return the words of some values as both databases part them: lower case, digits and letters, a space before each."""
    found = dict.fromkeys(word for value in values if value is not None for word in words_of(str(value)))
    return "".join(f" {word}" for word in found)


def words_of(text: str) -> list[str]:
    """Part a text into its words; a very long one counts by its beginning."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(text.casefold())]


def _clean(row: Row) -> Row:
    """Take out the one character that PostgreSQL keeps in no text."""
    return {name: value.replace("\x00", "") if isinstance(value, str) else value for name, value in row.items()}


def _json(value: Any) -> str:
    return encode(value).decode()
