"""A stage for the use-cases: the real lanes on a real Redis, a vendor that follows a script, and a clock that is set by hand.

The clock starts with Redis' own and only the test moves it; due times and leases in Redis are brought forward to match,
so that hours pass and nobody sleeps.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from redis.asyncio import Redis

from connectors.catalog import Catalog
from connectors.declared import Auth, Connection, Operation
from connectors.exchange import Lease
from connectors.secret import MissingSecret, Secret
from dlq.redaction import Sealer
from gateway.flow.contract_watch import ContractWatch
from gateway.flow.delivery import Delivery, Parts
from gateway.flow.delivery import Terms as DeliveryTerms
from gateway.flow.intake import Entry, Intake
from gateway.flow.intake import Terms as IntakeTerms
from gateway.flow.letters import Letters
from gateway.flow.quarantine import Quarantine
from gateway.flow.status import Status
from gateway.lanes.connect import connect
from gateway.lanes.findings import Findings
from gateway.lanes.overview import Overview
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.policy.backoff import Backoff
from gateway.policy.budget import BudgetTerms
from gateway.policy.plans import plans
from gateway.ports import Ambient, Claim, Settled, Settlement
from schemas.effect import Effect, OperationClass, needs_mark
from schemas.failure import FACTS, Failure
from schemas.lifecycle import TERMINAL, CallState, move
from schemas.moment import moment
from schemas.outcome import Outcome
from schemas.tool_call import Ran, ToolCall
from schemas.topics import FIELD, GROUP, Shard, Topics
from tests.examples import SPAN, TRACE, operation

TOPICS, SHARD = Topics(), Shard()
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
MOST_BYTES = 4096
GRACE_US = 7_000_000
CREATE, GET, PUT, CHECK, SEND = (
    f"crm.{name}" for name in ("contacts.create", "contacts.get", "contacts.put", "notes.add", "messages.send")
)
BY_CLASS = {
    OperationClass.KEYED: CREATE,
    OperationClass.SAFE: GET,
    OperationClass.IDEMPOTENT: PUT,
    OperationClass.VERIFIABLE: CHECK,
    OperationClass.UNSAFE: SEND,
}
WINDOW_S = 3600.0
"""How long the vendor of `CREATE` honours a key."""
BACKOFF = Backoff(base_s=0.5, cap_s=900)
MAX_ATTEMPTS, MAX_CRASHES = 3, 5

_EMAIL = {"type": "object", "required": ["email"], "properties": {"email": {"type": "string"}}}


def _operations() -> list[Operation]:
    crm = [
        operation(
            tool=tool,
            name=tool.removeprefix("crm."),
            op_class=op_class,
            max_attempts=MAX_ATTEMPTS,
            input_schema=_EMAIL if tool == CREATE else None,
            idempotency_window_s=WINDOW_S if op_class is OperationClass.KEYED else None,
        )
        for op_class, tool in BY_CLASS.items()
    ]
    bank = operation(tool="bank.pay", connector="bank", name="pay", auth=Auth(type="bearer"))
    return [*crm, bank, operation(tool="crm.vetted", name="vetted", approval_required=True)]


def catalog(**changes: Any) -> Catalog:
    """Return `crm`, which needs no credential, and `bank` with two connections, one of which lacks its secret."""
    bank = [
        Connection(name="main", connector="bank", secrets={"token": Secret("t0k3n")}),
        Connection(name="spare", connector="bank", missing={"token": MissingSecret("${env:BANK}", "BANK is not set")}),
    ]
    whole: dict[str, Any] = {
        "operations": {one.tool: one for one in _operations()},
        "connections": {f"bank/{one.name}": one for one in bank},
    }
    return Catalog(**{**whole, **changes})


class Clock:
    """Time as the test wants it."""

    def __init__(self) -> None:
        self.start = self.now = datetime.now(UTC)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def to(self, us: int) -> None:
        """Go on to a moment in microseconds since the epoch; never back."""
        self.now = max(self.now, moment(us))

    def seconds(self) -> float:
        """Return how much time has passed."""
        return (self.now - self.start).total_seconds()

    def ambient(self) -> Ambient:
        ids, traces = count(1), count(1)
        return Ambient(
            now=lambda: self.now,
            monotonic=self.seconds,
            new_id=lambda: f"01TEST{next(ids):020d}",
            new_trace=lambda: f"00-{next(traces):032x}-{SPAN}-01",
            uniform=lambda _, high: high,
            worker="w1",
        )


Act = Outcome | Callable[[], Awaitable[Outcome]]


@dataclass
class ScriptedVendor:
    """The in-process twin of a vendor: plays its script act by act, then does what it is asked."""

    script: Sequence[Act] = ()
    seen: list[ToolCall] = field(default_factory=list)
    """Calls that reached the vendor, in their order."""

    async def attempt(
        self,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        lease: Lease,
    ) -> Outcome:
        assert operation.tool == call.tool
        assert connection is None or connection.name == call.connection
        if needs_mark(call.op_class) and await lease.mark() != "marked":
            return Outcome(effect=Effect.NOT_EXECUTED, failure=Failure.SEND_WORKER_LOST, spends_attempt=False)
        self.seen.append(call)
        act, self.script = (self.script[0], self.script[1:]) if self.script else (done(call.op_class), ())
        return act if isinstance(act, Outcome) else await act()

    def judge(self, ran: Ran, operation: Operation) -> Outcome:
        assert operation.tool
        return Outcome(effect=Effect.EXECUTED, status=ran.status, result={"id": "c1"})


def done(op_class: OperationClass = OperationClass.KEYED) -> Outcome:
    effect = Effect.NOT_EXECUTED if op_class is OperationClass.SAFE else Effect.EXECUTED
    return Outcome(effect=effect, status=201, result={"id": "c1"}, duration_ms=7)


def fails(failure: Failure, **changes: Any) -> Outcome:
    """Return what classify makes of this failure for an operation that is not `safe`."""
    facts: dict[str, Any] = {
        "effect": FACTS[failure].effect,
        "failure": failure,
        "message": f"The vendor did {failure}.",
        "spends_attempt": failure is not Failure.HTTP_TOO_MANY,
    }
    return Outcome(**{**facts, **changes})


NEVER = 10**17
"""A gap without reaping, in microseconds, that no test waits for."""


class LawfulLanes(Lanes):
    """The real lanes; remembers every settlement and holds it against the table of states."""

    settlements: list[Settlement]

    async def settle(self, settlement: Settlement) -> Settled:
        move(CallState.PROCESSING, settlement.state)
        assert (settlement.state in TERMINAL) == (settlement.due_us is None)
        self.settlements.append(settlement)
        return await super().settle(settlement)


class Stage:
    """One gateway without its loops: a test calls the use-cases itself."""

    def __init__(self, redis: "Redis", sealer: Sealer) -> None:
        self.redis: Any = redis  # the client's types know keys of one kind only
        self.clock = Clock()
        self.ambient = self.clock.ambient()
        self.catalog = catalog()
        self.vendor = ScriptedVendor()
        self.lanes = LawfulLanes(
            redis,
            TOPICS,
            shard=SHARD,
            terms=LaneTerms(items=128, size_bytes=8_000_000, wait_s=0.001, most_bytes=10_000_000),
            plans=lambda: plans(self.catalog.operations.values(), grace_us=GRACE_US),
        )
        self.lanes.settlements = []
        self.alerts: list[str] = []
        self.case_files = Letters(sealer, lambda: self.catalog, self.ambient, self.alert)
        self.intake = self.intake_with()
        parts = Parts(
            queue=self.lanes,
            vendor=self.vendor,
            catalog=lambda: self.catalog,
            letter=self.case_files.for_call,
            contracts=ContractWatch(Findings(redis, TOPICS, SHARD), self.ambient, self.alert, lambda *_: None),
            quarantine=Quarantine(self.lanes, Overview(redis, SHARD, high_bytes=0).closed, lambda _: None),
            observe=lambda *_: None,
        )
        terms = DeliveryTerms(
            start_within_s=2,
            max_crashes=MAX_CRASHES,
            answer_ttl_s=3600,
            scope_ttl_s=86_400,
            backoff=BACKOFF,
            budget=BudgetTerms(share=0.2, floor_per_s=3, most=100, longest_s=30),
        )
        self.delivery = Delivery(parts, ambient=self.ambient, terms=terms)
        self.status = Status(self.lanes, self.delivery, self._settled, self.ambient)
        self._sequence = 0

    async def alert(self, kind: str, _: dict[str, object]) -> None:
        """Note an alert of the gateway itself."""
        self.alerts.append(kind)

    def intake_with(self, *, queue_limit: int = 1000) -> Intake:
        terms = IntakeTerms(max_event_bytes=MOST_BYTES, deadline_s=86_400, queue_limit=queue_limit, answer_ttl_s=3600)
        return Intake(
            self.lanes, lambda: self.catalog, ambient=self.ambient, terms=terms, letter=self.case_files.for_entry
        )

    async def publish(self, *bodies: bytes) -> list[Entry]:
        """Put events on the bus and read them, as the subscription does."""
        keys = [await self.redis.xadd(TOPICS.calls, {FIELD: body}) for body in bodies]
        await self.redis.xreadgroup(GROUP, "w1", {TOPICS.calls: ">"})
        return [Entry(stream=TOPICS.calls, id=key.decode(), raw=body) for key, body in zip(keys, bodies, strict=True)]

    async def take_in(self, *bodies: bytes) -> list[Entry]:
        entries = await self.publish(*bodies)
        await self.intake.from_bus(entries)
        return entries

    async def claim(self, room: int = 100) -> tuple[Claim, ...]:
        """Let the time pass until everything that waits is due, and claim it."""
        delayed = SHARD.key("delayed")
        for call, due_us in await self.redis.zrange(delayed, 0, -1, withscores=True):
            self.clock.to(int(due_us))
            await self.redis.zadd(delayed, {call: 1})
        self._sequence += 1
        return (await self.lanes.claim("w1", self._sequence, room=room, grace_us=GRACE_US)).claims

    async def claim_one(self) -> Claim:
        (claim,) = await self.claim()
        return claim

    async def deliver(self, claim: Claim) -> Settled:
        return await self.delivery.deliver(claim, self.ambient.monotonic())

    async def run(self) -> None:
        """Deliver until nothing is left to claim."""
        for _ in range(100):
            claims = await self.claim()
            if not claims:
                return
            for claim in claims:
                await self.deliver(claim)
        raise AssertionError("a call goes round for ever")

    async def recover(self) -> None:
        """Let every lease end, as if its worker had died, and settle what is found."""
        leases = SHARD.key("leases")
        for call in await self.redis.zrange(leases, 0, -1):
            await self.redis.zadd(leases, {call: 1})
        for claim in await self.lanes.reap(most=100, lease_us=10_000_000, gap_us=NEVER, hold_us=0):
            await self.delivery.recover(claim)

    async def topic(self, stream: str) -> list[dict[str, Any]]:
        return [json.loads(fields[FIELD.encode()]) for _, fields in await self.redis.xrange(stream)]

    async def results(self) -> list[dict[str, Any]]:
        return await self.topic(TOPICS.results)

    async def result(self) -> dict[str, Any]:
        """Return the `data` of the one result there is."""
        (event,) = await self.results()
        data: dict[str, Any] = event["data"]
        return data

    async def events(self) -> list[dict[str, Any]]:
        return await self.topic(TOPICS.events)

    async def letters(self) -> list[dict[str, Any]]:
        return await self.topic(TOPICS.letters)

    async def books(self) -> dict[str, int]:
        """Return the counters, after holding them against both conservation laws."""
        stats = await self.lanes.stats()
        ways = ("accepted", "duplicates", "conflicts", "undecodable")
        assert stats.get("received", 0) == sum(stats.get(way, 0) for way in ways), stats
        ends = sum(stats.get(state, 0) for state in TERMINAL)
        assert stats.get("accepted", 0) == ends + stats["live"], stats
        return stats

    async def unacknowledged(self) -> int:
        pending = await self.redis.xpending(TOPICS.calls, GROUP)
        return int(pending["pending"])

    async def _settled(self, call: str, timeout_s: float) -> None:
        """Stand in for the wake-up: whoever waits sees the worker work and the time pass."""
        assert call
        await self.run()
        self.clock.forward(timeout_s)


@asynccontextmanager
async def open_stage(redis_url: str, sealer: Sealer) -> AsyncIterator[Stage]:
    """Set an empty stage."""
    async with connect(redis_url) as redis:
        await redis.flushall()
        await redis.xgroup_create(TOPICS.calls, GROUP, id="0", mkstream=True)
        yield Stage(redis, sealer)


def event(
    tool: str = CREATE, arguments: Any = None, *, at: Sequence[str] = ("agent/research-7", "e-1"), **data: Any
) -> bytes:
    """Return a request as an agent publishes it; `at` is its source and id."""
    source, identity = at
    fields = {"tool": tool, "arguments": {"email": "a@b.c"} if arguments is None else arguments, **data}
    envelope = {"specversion": "1.0", "type": "tool.call.requested", "source": source, "id": identity}
    return json.dumps({**envelope, "traceparent": TRACEPARENT, "data": fields}).encode()
