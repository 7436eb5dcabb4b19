"""One plain sentence about each event of a call, for people who read its timeline. Pure."""

from collections.abc import Mapping
from typing import Any

_SAID = {
    "tool.call.accepted": "Accepted{as_class}{lineage}.",
    "tool.call.held": "Held back: {reason}.",
    "tool.call.reviewed": "{decision} by {who}{because}.",
    "contract.finding": "Its answer differs from the contract: {sentence}",
    "tool.call.read_back": "Asked the vendor whether it ran: {detail}.",
    "letter.changed": "Its letter is {status} now{by}{because}.",
}
_EFFECTS = {"not_executed": "it did not run", "executed": "it ran", "unknown": "whether it ran is not known"}


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """Return the sentence of an event of type `kind`."""
    if kind == "tool.call.attempted":
        return _attempted(data)
    if kind == "tool.call.settled":
        return _settled(data)
    said = _SAID.get(kind)
    if said is None:
        return f"{kind}."
    facts = {
        "as_class": f" as {data['class']}" if data.get("class") else "",
        "lineage": _lineage(data),
        "reason": data.get("reason") or "for a reason that was not told",
        "detail": (data.get("read_back") or {}).get("detail") or "nothing yet",
        "sentence": data.get("sentence") or "",
        "status": str(data.get("status")).replace("_", " "),
        "by": f", by {data['by']}" if data.get("by") else "",
        "decision": str(data.get("decision")).capitalize(),
        "who": data.get("by") or "nobody",
        "because": f": {data['reason']}" if data.get("reason") else "",
    }
    return said.format(**facts)


def _lineage(data: Mapping[str, Any]) -> str:
    letter, root = data.get("replay_of"), data.get("root")
    if not letter:
        return ""
    return f", to replay letter {letter}" + (
        f" of the chain that began with {root}" if root not in {None, letter} else ""
    )


def _attempted(data: Mapping[str, Any]) -> str:
    attempt = data["attempt"]
    status = attempt.get("status")
    answered = f"the vendor answered {status}" if status is not None else "no answer"
    text = f"Attempt {attempt['n']} took {attempt['duration_ms']} ms: {answered}"
    if attempt["outcome"] != "completed":
        text += f" ({attempt['outcome']}; {_EFFECTS[attempt['effect']]})"
    if data.get("due"):
        text += f"; tried again after {data['due'][11:19]}Z"
    message = attempt.get("message")
    return f"{text}. {message[:1].upper()}{message[1:]}".rstrip(".") + "." if message else text + "."


def _settled(data: Mapping[str, Any]) -> str:
    text = f"Ended as {data['state']}; {_EFFECTS.get(str(data.get('effect')), 'its effect was not told')}"
    error = data.get("error") or {}
    if error.get("message"):
        text += f". {error['message'][:1].upper()}{error['message'][1:]}".rstrip(".")
    if error.get("action"):
        text += f". Next: {error['action']}".rstrip(".")
    return text + "."
