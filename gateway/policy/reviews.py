"""Reviews: what a person is asked about, who may answer, and whether an answer covers what would run. Pure.

An approval is bound to a hash of everything that decides what happens at the vendor, the call's own id included: it is good
for one call, once, and for nothing that was changed afterwards.
"""

from connectors.declared import Operation
from gateway.policy.replays import only_judged
from schemas.codec import canonical, sha256
from schemas.review import Decision, Review
from schemas.tool_call import ToolCall

MOST_REASON = 500
"""Characters of the words that come with a decision."""


def action_hash(call: ToolCall) -> str:
    """Return the hash of exactly what would run: call, tool, connection, arguments, vendor key and deadline (RFC 8785 form)."""
    shown = {
        "call": call.id,
        "tool": call.tool,
        "connection": call.connection,
        "arguments": call.arguments,
        "vendor_key": call.vendor_key,
        "deadline_us": call.deadline_us,
    }
    return sha256(canonical(shown))


def asked(call: ToolCall, operation: Operation) -> Review | None:
    """Return the review that a call needs before it may run; None when it needs none."""
    if not operation.approval_required or only_judged(call):
        return None
    wait_us = int(operation.approval_timeout_s * 1_000_000)
    return Review(hash=action_hash(call), wait_us=wait_us, on_timeout=operation.approval_on_timeout)


def covered(review: Review | None, call: ToolCall) -> bool:
    """Tell whether this very call was approved, as it is now."""
    return review is not None and review.decision is Decision.APPROVED and review.hash == action_hash(call)


def decided_against(review: Review | None) -> bool:
    """Tell whether a call may not run because of what was, or was not, decided."""
    return review is not None and review.decision in {Decision.DENIED, Decision.EXPIRED}


def against(review: Review) -> str:
    """Say why a call may not run."""
    if review.decision is Decision.EXPIRED:
        return f"Nobody decided within {review.wait_us / 1e6:g} s."
    return f"{review.by} denied it: {review.reason}"


def own(approver: str, call: ToolCall) -> bool:
    """Tell whether somebody would decide about what he asked for himself."""
    return approver in {call.agent, call.replayed and call.replayed.by}
