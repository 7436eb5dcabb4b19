"""The scripts against their pure model: whatever is claimed, settled and waited for, both allow the same calls at the same time.

Redis has its own clock and tells the time of every answer; the model is asked about exactly that moment.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gateway.lanes import pacing
from gateway.lanes.connect import connect
from gateway.lanes.pacing import State, Terms
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.ports import Admission, Admitted, Claim, Need, Plan, Settlement
from schemas.lifecycle import CallState
from schemas.topics import Shard, Topics

T = TypeVar("T")
LANE = "crm|main|contacts.create"
KEYS = {"connector": "crm|{}", "connection": "crm|main|{}", "operation": "crm||contacts.create|{}"}
TIMEOUT_US, GRACE_US = 5_000, 5_000
CALLS = 40

windows = st.integers(3_000, 15_000)
strict = st.builds(Terms, kind=st.just("strict"), most=st.integers(1, 6), window_us=windows)
large = st.builds(
    Terms, kind=st.just("strict"), most=st.integers(10_001, 20_000), window_us=st.integers(30_000, 60_000)
)
soft = st.builds(Terms, kind=st.just("soft"), most=st.integers(1, 50), window_us=windows)
together = st.builds(Terms, kind=st.just("concurrency"), most=st.integers(1, 5), window_us=st.just(0))


class Pacing(RuleBasedStateMachine):
    """One lane with one to three limits."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis: Any = connect(self.url)
        self.claims: list[Claim] = []
        self.sequence = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(
        limits=st.lists(st.one_of(strict, strict, large, soft, together), min_size=1, max_size=3),
        scopes=st.lists(st.sampled_from(sorted(KEYS)), min_size=3, max_size=3),
        weighted=st.booleans(),
        costs=st.lists(st.one_of(st.just(0), st.integers(2_000, 9_000)), min_size=CALLS, max_size=CALLS),
    )
    def declare(self, limits: list[Terms], scopes: list[str], *, weighted: bool, costs: list[int]) -> None:
        self.terms = {f"l{index}": limit for index, limit in enumerate(limits)}
        self.states = {name: State() for name in self.terms}
        self.heavy = {
            name
            for name, limit in self.terms.items()
            if weighted and (limit.most > pacing.MANY or limit.kind == "soft")
        }
        needs = [
            Need(
                name=name,
                per=scope,
                kind=limit.kind,
                most=limit.most,
                window_us=limit.window_us,
                cost=1,
                weighted=name in self.heavy,
            )
            for (name, limit), scope in zip(self.terms.items(), scopes, strict=False)
        ]
        self.keys = {need.name: KEYS[need.per].format(need.name) for need in needs}
        plan = Plan(hold_us=TIMEOUT_US + GRACE_US, needs=needs)
        terms = LaneTerms(items=128, size_bytes=8_000_000, wait_s=0.01, most_bytes=10**9)
        plans = {"crm|contacts.create": plan}
        self.lanes = Lanes(self.redis, Topics(), shard=Shard(), terms=terms, plans=lambda: plans)
        self.waiting = [{name: self.drawn(name, cost) for name in self.heavy} for cost in costs]
        self.run(self.fill())

    def drawn(self, name: str, cost: int) -> int:
        """Return a cost that is large for a large limit, and small enough for a soft one to work off."""
        return cost if self.terms[name].most > pacing.MANY else cost % 4

    async def fill(self) -> None:
        await self.redis.flushall()
        admissions = [
            Admission(
                id=f"c{index:03}",
                lane=LANE,
                scope=f"s{index}",
                print="p",
                body="{}",
                event="{}",
                timeout_us=TIMEOUT_US,
                deadline_us=10**17,
                limit=1000,
                flow="f",
                weight=4,
                costs=costs or None,
            )
            for index, costs in enumerate(self.waiting)
        ]
        answers = await self.lanes.enqueue(admissions)
        assert all(isinstance(answer, Admitted) for answer in answers)

    def cost(self, name: str, costs: dict[str, int]) -> int:
        return costs.get(name, 1)

    def fit(self, name: str, costs: dict[str, int], now_us: int) -> int:
        cost = self.cost(name, costs)
        return pacing.fits(self.terms[name], self.states[name], cost, now_us) if cost else CALLS

    @rule(room=st.integers(1, 12))
    def claim(self, room: int) -> None:
        """As many are given as the model allows, and otherwise a moment at which it is worth to look again."""
        self.sequence += 1
        claims = self.run(self.lanes.claim("w", self.sequence, room=room, grace_us=GRACE_US))
        now_us = claims.now_us
        given = iter(claims.claims)
        for _ in range(room):
            costs = self.waiting[0] if self.waiting else {}
            if not self.waiting or any(self.fit(name, costs, now_us) < 1 for name in self.terms):
                break
            claim = next(given, None)
            assert claim is not None, f"the model allows another call at {now_us}: {self.states}"
            self.waiting.pop(0)
            self.take(claim, costs, now_us)
        assert next(given, None) is None, f"the model allows no more calls at {now_us}: {self.states}"
        if self.waiting and not claims.claims:
            # Never later than the model says, or a free slot would go to waste; never at once, or the worker would spin.
            assert claims.due_us is not None
            assert now_us < claims.due_us <= self.next_at(now_us)

    def take(self, claim: Claim, costs: dict[str, int], now_us: int) -> None:
        assert claim.run.permit == claim.fence
        for name, terms in self.terms.items():
            cost = self.cost(name, costs)
            if cost:
                state = self.states[name]
                held = str(claim.fence)
                self.states[name] = pacing.take(terms, state, held, cost, now_us, lease_us=claim.lease_us)
        self.claims.append(claim)

    def next_at(self, now_us: int) -> int:
        costs = self.waiting[0]
        denied = [name for name in self.terms if self.fit(name, costs, now_us) < 1]
        return max(
            pacing.free_at(self.terms[name], self.states[name], self.cost(name, costs), now_us) for name in denied
        )

    @rule(
        which=st.integers(0, CALLS),
        fate=st.sampled_from(("unused", "answered", "answered", "answered", "doubt", "lost")),
        share=st.floats(0, 2),
    )
    def settle(self, which: int, fate: pacing.Fate, share: float) -> None:
        if not self.claims:
            return
        claim = self.claims.pop(which % len(self.claims))
        reserved = claim.run.costs or {}
        actual = {name: int(cost * share) for name, cost in reserved.items()}
        settlement = Settlement(
            id=claim.id,
            fence=claim.fence,
            state=CallState.COMPLETED,
            seq=2,
            events=[],
            attempts_json="[]",
            answer_ttl_s=60,
            scope_ttl_s=60,
            slots=fate,
            costs=actual or None,
            result="{}",
        )
        seen: list[int] = []
        self.lanes.moved = lambda now_us, _: seen.append(now_us)
        assert self.run(self.lanes.settle(settlement)) == "settled"
        (now_us,) = seen
        for name, terms in self.terms.items():
            cost = self.cost(name, reserved)
            if cost:
                self.states[name] = pacing.settle(
                    terms,
                    self.states[name],
                    str(claim.run.permit),
                    fate,
                    now_us,
                    cost=cost,
                    actual=actual.get(name, cost),
                )

    @rule(wait_ms=st.integers(1, 12))
    def wait(self, wait_ms: int) -> None:
        time.sleep(wait_ms / 1000)

    def teardown(self) -> None:
        self.run(self.redis.aclose())
        self.loop.close()


@pytest.mark.timeout(120)
def test_the_scripts_allow_what_the_model_allows(redis_url: str) -> None:
    Pacing.url = redis_url
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Pacing,
        # Time passes by itself, so nothing repeats exactly: a failure is told as it was found, not made smaller.
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=checks,
            phases=[Phase.generate],
            database=None,
        ),
    )
