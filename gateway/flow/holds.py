"""Why a call waits, in words: what holds it, which limit binds, its place, when it will start, and who must act. Pure."""

from types import MappingProxyType

from gateway.ports import Held, Live
from schemas.lifecycle import CallState, HoldReason
from schemas.moment import moment, stamp
from schemas.result import Hold

NOTHING = "Nothing to do."

ACTIONS = MappingProxyType(
    {
        HoldReason.RATE_LIMIT: NOTHING,
        HoldReason.CONCURRENCY: NOTHING,
        HoldReason.BACKOFF: NOTHING,
        HoldReason.BREAKER_OPEN: "Nothing to do: the vendor is tried again by itself.",
        HoldReason.PAUSED: "An operator paused it; to go on: sluice lanes resume {lane}",
        HoldReason.NEEDS_CONSENT: "An operator must renew the consent: sluice connections authorize {connection} (or: set)",
        HoldReason.CONTRACT_QUARANTINE: "An operator must judge the finding: sluice contracts ls",
        HoldReason.REVIEW: "A reviewer must decide: sluice approvals ls",
    }
)
"""Who must act, by hold reason."""


def explain(live: Live) -> Hold:
    """Tell why a call that has not ended does not run."""
    if live.run.state is CallState.PROCESSING:
        return Hold(reason=None, detail="A worker has it now.", position=None, eta_s=None, action="Wait for it to end.")
    if live.run.review is not None and live.run.state is CallState.WAITING_FOR_REVIEW:
        until = stamp(moment(live.run.review.until_us))
        detail = f"It waits for a person to approve it, until {until}."
        action = ACTIONS[HoldReason.REVIEW]
        return Hold(reason=HoldReason.REVIEW, detail=detail, position=None, eta_s=None, action=action)
    if live.due_us is not None and live.held is None:
        return _backing_off(live, live.due_us)
    eta_s = None if live.eta_us is None else round(max(0, live.eta_us - live.now_us) / 1_000_000, 3)
    if live.held is None:
        detail = f"{_first(live)}It waits in lane {live.run.lane} for a worker with room."
        return Hold(reason=None, detail=detail, position=live.position, eta_s=eta_s, action=NOTHING)
    detail = f"{_first(live)}It waits in lane {live.run.lane}: {told(live.held)}"
    action = who_acts(live.held, live.run.lane)
    return Hold(reason=live.held.reason, detail=detail, position=live.position, eta_s=eta_s, action=action)


def _first(live: Live) -> str:
    return "Whether it ran is asked first. " if live.run.doubt is not None else ""


def who_acts(held: Held, lane: str) -> str:
    """Say who must act; a pause is ended where it was made, which may be wider than the lane."""
    connector, connection, _ = lane.split("|", 2)
    place = gate_target(held.key) if held.key.startswith("@") else target(lane)
    return ACTIONS[held.reason].format(lane=place, connection=f"{connector}/{connection}")


def told(held: Held) -> str:
    """Say what holds a lane: the limit that binds and how full it is, or the gate and until when."""
    until = f" until {stamp(moment(held.until_us))}" if held.until_us else ""
    if held.limit is not None:
        state = "is used up" if held.used >= held.most else "has too little left for the call that is next"
        return f"limit {held.limit} {state} ({held.used} of {_limit(held)}); the next slot is free{_at(held)}."
    name = f"{'the gate' if held.key.startswith('@') else 'limit'} {named(held.key)}"
    match held.reason:
        case HoldReason.RATE_LIMIT if held.detail == "forgotten":
            return f"{name} starts full{until}, because Redis lost its state and nobody knows what was sent."
        case HoldReason.RATE_LIMIT:
            return f"{name} is closed{until}: {held.detail}."
        case HoldReason.PAUSED:
            return f"{named(held.key)} is paused{until or ' until it is resumed'}: {held.detail}."
        case _:
            return f"{named(held.key)} is held ({held.reason}){until}: {held.detail}."


def target(lane: str) -> str:
    """Write a lane as the commands take it."""
    connector, connection, operation = lane.split("|", 2)
    return f"{connector}.{operation}" + ("" if connection == "-" else f" --connection {connection}")


def gate_target(key: str) -> str:
    """Write the key of a gate as the commands take it."""
    connector, connection, operation = (*key.removeprefix("@").split("|", 2), "", "")[:3]
    name = f"{connector}.{operation}" if operation else connector
    return name + ("" if connection in {"", "-"} else f" --connection {connection}")


def _backing_off(live: Live, due_us: int) -> Hold:
    wait_s = max(0, due_us - live.now_us) / 1_000_000
    so_far = "The last attempt failed; the next" if live.run.tries else "It could not start; the first"
    if live.run.doubt is not None:
        so_far = "Nobody knows whether it ran; the next look at what the vendor has"
    detail = f"{so_far} starts after {stamp(moment(due_us))}."
    return Hold(reason=HoldReason.BACKOFF, detail=detail, position=None, eta_s=round(wait_s, 3), action=NOTHING)


def _limit(held: Held) -> str:
    return f"{held.most}" if held.window_us == 0 else f"{held.most} in {_seconds(held.window_us)}"


def _at(held: Held) -> str:
    if held.window_us == 0 or held.until_us is None:
        return " when a call ends"
    return f" at {stamp(moment(held.until_us))}"


def _seconds(us: int) -> str:
    seconds = us / 1_000_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def scope_of(key: str) -> str:
    """Return the gate over all lanes that a gate's or a limit's key holds; see `Limit.instance`."""
    if key.startswith("@"):
        return key
    *scope, _ = key.split("|")
    return "@" + "|".join(scope)


def named(key: str) -> str:
    """Write the key of a gate or a limit as people know it."""
    parts = key.removeprefix("@").split("|")
    return " / ".join(part for part in parts if part not in ("", "-"))
