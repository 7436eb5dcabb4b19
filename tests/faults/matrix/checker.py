"""What must hold after every run, as pure functions over what was recorded and what the vendor itself counted.

L conservation · D no second effect · U told effects are true · R limits hold at arrival · S no secret anywhere · T quiet in
time · A every decision is on record · I bystanders unharmed · M bounded memory and descriptors. Each returns what breaks it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.faults.matrix.recording import Limit, Oracle, Recording, Violation
from tests.vendor.record import Arrival, crowd, overflows

US = 1_000_000
RSS_MOST = 50 * 2**20
FDS_MOST = 20

Found = Iterator[Violation]
Invariant = Callable[[Recording, Oracle], Found]


def conservation(seen: Recording, _: Oracle) -> Found:
    """L: every accepted event reaches one terminal state, and the sums add up."""
    sums = seen.sums
    if not sums.received_is_explained or not sums.accepted_is_explained:
        yield Violation("L", "the sums do not add up", str(sums))
    if sums.live or seen.pending:
        yield Violation("L", "something never ended", f"live {sums.live}, pending on the bus {seen.pending}")
    entries = seen.published_total if seen.entries is None else seen.entries
    if seen.counted and sums["received"] != entries:
        told_of = f"{sums['received']} of {entries}, {seen.published_total} published"
        yield Violation("L", "received is not what is on the bus", told_of)
    yield from _one_end(seen)
    for call, times in Counter(result["call"] for result in seen.ended).items():
        if times > 1:
            yield Violation("L", f"call {call} was told {times} different results")
    yield from _letters_match(seen)


def _one_end(seen: Recording) -> Found:
    told: dict[str, set[str]] = defaultdict(set)
    for result in seen.ended:
        told[result["request"]["id"]].add(result["call"])
    for one in seen.calls:
        ends = told.get(one.id, set())
        if len(ends) != 1 and not (one.id in seen.may_be_lost and not ends):
            yield Violation("L", f"event {one.id} has {len(ends)} calls that ended", f"{one.operation} {sorted(ends)}")


def _letters_match(seen: Recording) -> Found:
    told = Counter(letter["identity"]["call"] for letter in seen.letters)
    unread = told.pop(None, 0)
    if seen.counted and unread != seen.sums["undecodable"]:
        yield Violation("L", "letters of what could not be read", f"{unread} for {seen.sums['undecodable']}")
    # A result is told again after a doubt, with the same id.
    dead = {result["call"] for result in seen.ended if result["state"] in {"failed", "escalated"}}
    for call in dead | set(told):
        if told[call] != (call in dead):
            yield Violation("L", f"call {call} has {told[call]} letters", "dead" if call in dead else "not dead")


def one_effect(seen: Recording, oracle: Oracle) -> Found:
    """D: at most one effect of a logical operation, unless an operator approved the second."""
    for (operation, ref), times in oracle.effects.items():
        if times > 1 + seen.approved.get(ref, 0):
            yield Violation("D", f"{operation} of {ref} ran {times} times", _arrivals(oracle, ref))


def true_effects(seen: Recording, oracle: Oracle) -> Found:
    """U: who is told `executed` finds it in the vendor's books, who is told `not_executed` does not; `unknown` may be either."""
    known = {one.id: one for one in seen.calls}
    for told, whose, request in _told(seen):
        one = known.get(request)
        if one is None or one.op_class == "safe":
            continue
        ran = oracle.effects.get((one.operation, one.ref), 0) > 0
        if told != "unknown" and (told == "executed") != ran:
            happened = "ran" if ran else "did not run"
            yield Violation("U", f"{whose} of {request} says {told}, and it {happened}", _arrivals(oracle, one.ref))


def _told(seen: Recording) -> Iterator[tuple[str, str, str]]:
    calls: dict[str, str] = {}
    for result in seen.ended:
        calls[result["call"]] = result["request"]["id"]
        yield result["effect"], f"the result ({result['state']})", result["request"]["id"]
    for letter in seen.letters:
        request = calls.get(letter["identity"]["call"])
        if request is not None:
            yield letter["effect"]["state"], "the letter", request


def within_limits(seen: Recording, oracle: Oracle) -> Found:
    """R: in no window did more arrive than the limit allows, and never more were open at once."""
    for limit in seen.limits:
        for whose, found in _budgets(limit, oracle).items():
            over = _over(limit, found)
            if over:
                yield Violation("R", f"{over} arrivals over {limit}", f"{whose or 'connector'}: {len(found)} arrivals")


def _budgets(limit: Limit, oracle: Oracle) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for one in oracle.arrivals:
        if not limit.operations or one.operation in limit.operations:
            found[{"connection": one.credential_sha256 or "", "operation": one.operation}.get(limit.per, "")].append(
                one
            )
    return found


def _over(limit: Limit, found: list[Arrival]) -> int:
    if limit.window_s:
        return overflows((one.mono_us for one in found), limit.most, round(limit.window_s * US))
    return max(0, crowd((one.mono_us, one.done_us) for one in found) - limit.most)


def no_secret(seen: Recording, _: Oracle) -> Found:
    """S: no canary in any artefact."""
    for place, canary in seen.leaks:
        yield Violation("S", f"{canary} stands in {place}", place)


def quiet_in_time(seen: Recording, _: Oracle) -> Found:
    """T: everything has ended within the bound after the last fault was healed."""
    if seen.quiet_s is None or seen.quiet_s > seen.bound_s:
        took = "not at all" if seen.quiet_s is None else f"after {seen.quiet_s:.1f} s"
        yield Violation("T", f"quiet {took}, the bound is {seen.bound_s:.0f} s", str(seen.sums))


def on_record(seen: Recording, _: Oracle) -> Found:
    """A: each call's events are complete, in order and end as its result says; so does its row of the journal, if one ran."""
    told: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in seen.events:
        if event["data"].get("call") and "seq" in event["data"]:
            told[event["data"]["call"]].append(event)
    for result in seen.ended:
        events = sorted(told[result["call"]], key=lambda event: int(event["data"]["seq"]))
        if _broken(events, result["state"]):
            told_of = [(event["data"]["seq"], event["type"], event["data"]["state"]) for event in events]
            yield Violation("A", f"the record of {result['call']} ({result['state']}) is not whole", str(told_of))
        row = seen.journal.get(result["call"]) if seen.journal is not None else result["state"]
        if row != result["state"]:
            yield Violation("A", f"the journal has {row} of {result['call']}", f"its result says {result['state']}")


def _broken(events: Sequence[Mapping[str, Any]], state: str) -> bool:
    if not events:
        return True
    in_order = sorted({event["data"]["seq"] for event in events}) == list(range(1, events[-1]["data"]["seq"] + 1))
    first, last = events[0], events[-1]
    ended = (last["type"], last["data"]["state"]) == ("tool.call.settled", state)
    return not (in_order and first["type"] == "tool.call.accepted" and ended)


def bystanders(seen: Recording, _: Oracle) -> Found:
    """I: agents that nothing happened to are served as well and as fast as they were promised."""
    for agent, most_ms in seen.bystanders.items():
        ids = {one.id for one in seen.calls if one.agent == agent}
        mine = [result for result in seen.ended if result["request"]["id"] in ids]
        failed = [result["call"] for result in mine if result["state"] != "completed"]
        waits = sorted(result["queued_ms"] + result["duration_ms"] for result in mine)
        p95 = waits[int(len(waits) * 0.95)] if waits else 0
        if failed or len(mine) < len(ids) or p95 > most_ms:
            yield Violation(
                "I", f"agent {agent}: p95 {p95} ms of {most_ms}", f"{len(mine)}/{len(ids)}, failed {failed}"
            )


def bounded(seen: Recording, _: Oracle) -> Found:
    """M: no process has grown beyond what a run may leave behind."""
    for whose, before, after in seen.sizes:
        if after.rss - before.rss > RSS_MOST or after.fds - before.fds > FDS_MOST:
            yield Violation("M", f"{whose} has grown", f"{before} to {after}")


INVARIANTS: dict[str, Invariant] = {
    "L": conservation,
    "D": one_effect,
    "U": true_effects,
    "R": within_limits,
    "S": no_secret,
    "T": quiet_in_time,
    "A": on_record,
    "I": bystanders,
    "M": bounded,
}


def check(seen: Recording, oracle: Oracle) -> list[Violation]:
    """Hold a run against all of them: a row names those it is about, and none may break."""
    found = [one for invariant in INVARIANTS.values() for one in invariant(seen, oracle)]
    return [*seen.demands, *found]


def _arrivals(oracle: Oracle, ref: str) -> str:
    mine = [one for one in oracle.arrivals if one.ref == ref]
    return "; ".join(f"#{one.seq} at {one.mono_us} key {one.key} {one.status} effect {one.effect}" for one in mine)
