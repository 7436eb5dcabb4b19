"""Turns inside a lane: sessions share by weight whatever their number of calls, and nothing waits for ever.

Served one call at a time, as a vendor's limit does; waits are counted in calls served, so that no clock is in the way.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import count

import pytest
from redis.asyncio import Redis

from gateway.lanes.queue import Lanes, Terms
from gateway.policy.plans import WEIGHTS
from gateway.ports import Admission, Admitted, Claim, Settlement
from schemas.lifecycle import CallState
from schemas.topics import Shard, Topics

pytestmark = pytest.mark.timed

LANE = "crm|main|contacts.create"


class Line:
    """One lane, and how many calls it has served."""

    def __init__(self, redis: "Redis") -> None:
        terms = Terms(items=256, size_bytes=8_000_000, wait_s=0.01, most_bytes=10**9)
        self.lanes = Lanes(redis, Topics(), shard=Shard(), terms=terms, plans=dict)
        self.served: list[str] = []
        """The session of each call served, in their order."""
        self.waits: dict[str, list[int]] = {}
        self._numbers = count()
        self._came: dict[str, tuple[str, int]] = {}

    async def come(self, session: str, calls: int = 1, *, priority: str = "normal") -> None:
        admissions = [self._admission(session, priority) for _ in range(calls)]
        answers = await self.lanes.enqueue(admissions)
        assert all(isinstance(answer, Admitted) for answer in answers)

    def _admission(self, session: str, priority: str) -> Admission:
        name = f"c{next(self._numbers):07}"
        self._came[name] = (session, len(self.served))
        return Admission(
            id=name,
            lane=LANE,
            scope=name,
            print="p",
            body="{}",
            event="{}",
            timeout_us=1_000_000,
            deadline_us=10**17,
            limit=10**6,
            flow=session,
            weight=WEIGHTS[priority],
        )

    async def claim(self, room: int = 1) -> Sequence[Claim]:
        return (await self.lanes.claim("w", next(self._numbers), room=room, grace_us=7_000_000)).claims

    async def serve(self, calls: int) -> None:
        for claim in await self.claim(calls):
            session, came = self._came[claim.id]
            self.waits.setdefault(session, []).append(len(self.served) - came)
            self.served.append(session)
            await self.lanes.settle(settled(claim))


def settled(claim: Claim, due_us: int | None = None) -> Settlement:
    state = CallState.COMPLETED if due_us is None else CallState.RETRYING
    again = {} if due_us is None else {"attempts": 1, "tries": 1, "crashes": 0, "effect": "not_executed", "first_us": 1}
    return Settlement(
        id=claim.id,
        fence=claim.fence,
        state=state,
        seq=2,
        events=[],
        attempts_json="[]",
        answer_ttl_s=60,
        scope_ttl_s=60,
        slots="answered",
        result="{}",
        due_us=due_us,
        **again,  # type: ignore[arg-type]
    )


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 when all are equal, 1/n when one has all (Jain, Chiu, Hawe, DEC-TR-301, 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def p95(waits: Sequence[int]) -> int:
    return sorted(waits)[int(0.95 * (len(waits) - 1))]


@pytest.fixture
def line(redis: "Redis") -> Line:
    return Line(redis)


async def test_a_quiet_session_waits_for_its_fair_share_and_not_for_a_thousand_calls(line: Line) -> None:
    await line.come("noisy", 1000)
    for _ in range(40):
        await line.come("quiet")
        await line.serve(10)
    # Its share is half: one call of the other before each of its own, and the one that was first.
    assert p95(line.waits["quiet"]) <= 2
    assert max(line.waits["quiet"]) <= 3


async def test_nine_noisy_sessions_leave_the_tenth_its_tenth(line: Line) -> None:
    for number in range(9):
        await line.come(f"noisy-{number}", 300)
    for _ in range(30):
        await line.come("quiet")
        await line.serve(30)
    assert p95(line.waits["quiet"]) <= 10


@pytest.mark.parametrize("room", [1, 7, 64])
async def test_priorities_share_eight_to_four_to_one_while_all_wait(line: Line, room: int) -> None:
    for priority in WEIGHTS:
        await line.come(priority, 1000, priority=priority)
    while len(line.served) < 1300:
        await line.serve(room)
    shares = Counter(line.served[:1300])
    for priority, weight in WEIGHTS.items():
        assert shares[priority] == pytest.approx(100 * weight, rel=0.05)


async def test_equal_sessions_get_equal_shares(line: Line) -> None:
    for number in range(20):
        await line.come(f"s{number}", 50 + 13 * number)
    await line.serve(256)
    await line.serve(256)
    shares = Counter(line.served)
    assert jain([shares[f"s{number}"] for number in range(20)]) >= 0.95


async def test_sessions_that_ask_one_call_at_a_time_share_with_those_that_ask_many_at_once(line: Line) -> None:
    await line.come("many", 400)
    await line.come("one by one")
    for _ in range(400):
        await line.serve(1)
        if line.served[-1] == "one by one":
            await line.come("one by one")
    shares = Counter(line.served)
    assert jain([shares["many"], shares["one by one"]]) >= 0.95


async def test_low_priority_goes_on_under_a_tenfold_overload(line: Line) -> None:
    await line.come("night job", 200, priority="batch")
    for _ in range(100):
        for session in range(10):
            await line.come(f"person-{session}", 10, priority="interactive")
        await line.serve(10)
    # 10 people of weight 8 and one job of weight 1: its share is 1 in 81.
    assert Counter(line.served)["night job"] >= 1000 // 81 - 2


async def test_a_stream_of_fresh_sessions_never_starves_what_waits(line: Line) -> None:
    await line.come("patient", 3, priority="batch")
    for number in range(600):
        await line.come(f"fresh-{number}", priority="interactive")
        await line.serve(1)
    assert len(line.waits["patient"]) == 3
    # Virtual time rises by a 64th of a normal call's share at least: 4 shares of 64 steps for each batch call before its last.
    assert max(line.waits["patient"]) <= 2 * (4 * 64 + 1)


async def test_a_call_that_is_tried_again_keeps_its_place(line: Line) -> None:
    await line.come("a", 3)
    (first,) = await line.claim()
    await line.lanes.settle(settled(first, due_us=first.claimed_us))
    (again,) = await line.claim()
    assert again.id == first.id


async def test_an_idle_session_saves_nothing_up(line: Line) -> None:
    await line.come("busy", 300)
    await line.serve(200)
    await line.come("back again", 100)
    await line.serve(60)
    assert jain([Counter(line.served[200:])[session] for session in ("busy", "back again")]) >= 0.95


async def test_a_lane_that_empties_begins_anew(line: Line, redis: "Redis") -> None:
    await line.come("a", 5)
    await line.serve(5)
    kept = {key.decode() async for key in redis.scan_iter()}
    assert not [key for key in kept if "flows" in key or "lane:" in key or "virtual" in key or "held" in key]
