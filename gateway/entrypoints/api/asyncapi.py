"""The AsyncAPI 3.0 document of the event door, from the structs that are on the wire.

Assembled here and not by FastStream: with pydantic installed FastStream cannot describe msgspec structs, and it names channels
after handlers.
"""

from importlib.metadata import version
from typing import Any

import msgspec

from schemas.alert import AlertKind
from schemas.cloudevent import REQUESTED, SOURCE
from schemas.codec import encode
from schemas.dead_letter import DEAD_LETTERED, DeadLetter
from schemas.lifecycle import TERMINAL
from schemas.result import CallResult
from schemas.tool_call import ToolCallData
from schemas.topics import FIELD, GROUP, Topics

_LIFECYCLE = {
    "type": "object",
    "required": ["call", "seq", "tool"],
    "description": "`seq` orders the events of one call; further fields depend on the type.",
    "properties": {
        "call": {"type": "string"},
        "seq": {"type": "integer", "minimum": 1},
        "tool": {"type": "string"},
        "connection": {"type": ["string", "null"]},
        "agent": {"type": "string"},
        "session": {"type": ["string", "null"]},
        "idempotency_key": {"type": "string"},
        "confidence": {"type": ["number", "null"]},
        "replay_of": {"type": ["string", "null"]},
        "state": {"type": "string"},
        "attempt": {"type": "object"},
        "error": {"type": ["object", "null"]},
    },
}
_TEXT = {"type": "string"}
_ALERT = {
    "type": "object",
    "description": "A pattern that needs a person (alert.opened, alert.resolved: the fields below), or a notice with facts of its own.",
    "properties": {
        "alert": {"type": "string", "description": "The id of the alert; the same when it opens and when it resolves."},
        "kind": {"enum": [str(kind) for kind in AlertKind]},
        **dict.fromkeys(("key", "opened", "sentence", "action", "resolved", "by", "reason"), _TEXT),
        "count": {"type": "integer"},
        "sample": {"type": "object", "additionalProperties": _TEXT},
    },
}
_LIFECYCLE_TYPES = [f"tool.call.{verb}" for verb in ("accepted", "held", "attempted", "settled")]
_REF = "#/components/schemas/{name}"


def document(topics: Topics) -> bytes:
    """Return the document as JSON."""
    refs, schemas = msgspec.json.schema_components([ToolCallData, CallResult, DeadLetter], ref_template=_REF)
    requested, ended, letter = refs
    results = sorted(f"tool.call.{state}" for state in TERMINAL)
    rows = [
        _Row("toolCalls", topics.calls, "receive", "A tool call that an agent asks for.", [REQUESTED], requested),
        _Row("toolResults", topics.results, "send", "The end of a call; its id is `<call>.result`.", results, ended),
        _Row("toolEvents", topics.events, "send", "What happens to a call on its way.", _LIFECYCLE_TYPES, _LIFECYCLE),
        _Row(
            "deadLetters",
            topics.letters,
            "send",
            "The case file of a call that was not finished.",
            [DEAD_LETTERED],
            letter,
        ),
        _Row("gatewayAlerts", topics.alerts, "send", "Alerts of the gateway itself.", None, _ALERT),
    ]
    return encode(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Sluice events",
                "version": version("sluice"),
                "description": f"CloudEvents 1.0, structured JSON, in the one field `{FIELD}` of a Redis stream entry.",
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/cloudevents+json",
            "channels": {row.name: row.channel() for row in rows},
            "operations": {f"{row.action}{row.name[0].upper()}{row.name[1:]}": row.operation() for row in rows},
            "components": {"messages": {row.name: row.message() for row in rows}, "schemas": schemas},
        }
    )


class _Row(msgspec.Struct, frozen=True):
    """One topic."""

    name: str
    address: str
    action: str
    summary: str
    types: list[str] | None
    data: dict[str, Any]

    def channel(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "description": f"{self.summary} Consumers of ours use the group `{GROUP}`; there is no ordering promise.",
            "messages": {"event": {"$ref": f"#/components/messages/{self.name}"}},
        }

    def operation(self) -> dict[str, Any]:
        channel = f"#/channels/{self.name}"
        return {
            "action": self.action,
            "channel": {"$ref": channel},
            "summary": self.summary,
            "messages": [{"$ref": f"{channel}/messages/event"}],
        }

    def message(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.summary,
            "contentType": "application/cloudevents+json",
            "payload": _envelope(self.types, self.data, ours=self.action == "send"),
        }


def _envelope(types: list[str] | None, data: dict[str, Any], *, ours: bool) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["specversion", "type", "source", "id", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"enum": types} if types else text,
            "source": {"const": SOURCE} if ours else {**text, "examples": ["agent/research-7"]},
            "id": text,
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string"},
            "traceparent": {"type": "string"},
            "datacontenttype": {"type": "string"},
            "data": data,
        },
    }
