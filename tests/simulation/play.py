"""Plays one schedule to its end and holds what it left behind against the promises, with the checker of the fault matrix."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import structlog

from schemas.moment import stamp
from schemas.topics import GROUP
from tests.demo.ledger import RUNS, STATS, Sums
from tests.faults.matrix import load
from tests.faults.matrix.checker import check
from tests.faults.matrix.recording import Oracle, Recording, Violation
from tests.simulation import parts
from tests.simulation.node import TOPICS, Node
from tests.simulation.schedule import Fault, Schedule, Sent, smaller
from tests.simulation.world import BUS, START, World
from tests.twins.loop import VirtualLoop
from tests.twins.redis_twin.stream import Stream

BOUND_S: Final = 120.0
"""Everything is quiet so long after the last fault is over: five leases of nine seconds in a row, and read-backs between them."""

WELL_S: Final = 12.0
LOOK_S: Final = 0.5
AFTER_S: Final = 1.0
"""What is still on its way when all is quiet gets so long to do harm."""

MOST_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a schedule."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    calls: int
    struck: tuple[Fault, ...]
    steps: int
    seconds: float
    """Of virtual time."""
    states: tuple[str, ...]


def play(schedule: Schedule, altered: Mapping[str, str] = MappingProxyType({})) -> Played:
    """Play it; the same schedule always goes the same way. `altered` are scripts with another text than they have."""
    with _ears() as errors:
        return _Run(schedule, altered).played(errors)


def shrunk(schedule: Schedule, altered: Mapping[str, str] = MappingProxyType({}), *, tries: int = 200) -> Played:
    """Return the smallest schedule found that still breaks one of the promises that this one breaks."""
    smallest = play(schedule, altered)
    broken = {one.invariant for one in smallest.violations}
    found = True
    while found and tries > 0:
        found = False
        for candidate in smaller(smallest.schedule):
            tries -= 1
            played = play(candidate, altered)
            if broken & {one.invariant for one in played.violations}:
                smallest, found = played, True
                break
    return smallest


class _Run:
    """One run."""

    def __init__(self, schedule: Schedule, altered: Mapping[str, str]) -> None:
        self._loop = VirtualLoop()
        self._schedule = schedule
        self._world = World(schedule, self._loop, altered)
        self._nodes: list[Node] = []
        self._lives: dict[int, int] = {}
        self._calls: dict[int, load.Call] = {}
        self._published = 0

    def played(self, errors: list[str]) -> Played:
        try:
            quiet_s = self._loop.run_until_complete(self._lived())
            violations = [*self._verdict(quiet_s), *(Violation("X", "an error was logged", one) for one in errors)]
            return self._told(violations)
        finally:
            self._loop.run_until_complete(self._unwound())
            self._loop.close()

    async def _lived(self) -> float | None:
        """Live through the schedule; returns how long after the last fault it was quiet, None when it never was."""
        world, loop = self._world, self._loop
        for number in range(self._schedule.workers):
            self._start(number)
        for sent in self._schedule.sent:
            loop.outside(sent.at_s, self._publish, sent)
            world.healed_s = max(world.healed_s, sent.at_s)
        for fault in self._schedule.faults:
            if not fault.door:
                loop.outside(fault.at_s, self._strike, fault)
                world.healed_s = max(world.healed_s, fault.at_s + abs(fault.seconds))
        loop.outside(WELL_S, self._well)
        while loop.now_s < min(MOST_S, world.healed_s + BOUND_S + LOOK_S):
            await asyncio.sleep(LOOK_S)
            if self._quiet():
                quiet_s = max(0.0, loop.now_s - world.healed_s)
                await asyncio.sleep(AFTER_S)
                if self._quiet():
                    return quiet_s
        return None

    def _start(self, number: int) -> None:
        life = self._lives[number] = self._lives.get(number, 0) + 1
        again_s = self._world.dice.uniform(0.2, 2.0)
        node = Node(self._world, number, life, lambda: self._loop.outside(again_s, self._start, number))
        self._nodes.append(node)
        node.start()

    def _publish(self, sent: Sent) -> None:
        world = self._world
        if world.away or world.stalled_until_s > self._loop.now_s:
            self._loop.outside(0.25, self._publish, sent)
            return
        call = self._calls.get(sent.number) or self._called(sent)
        world.redis.execute([b"XADD", BUS, b"*", b"data", call.raw])
        self._published += 1

    def _called(self, sent: Sent) -> load.Call:
        data: dict[str, Any] = {}
        if sent.deadline_s is not None:
            data["deadline"] = stamp(START + timedelta(seconds=sent.at_s + sent.deadline_s))
        call = self._calls[sent.number] = load.call(sent.number, sent.op_class, **data)
        return call

    def _strike(self, fault: Fault) -> None:
        world = self._world
        world.struck.append(fault)
        match fault.kind:
            case "away":
                world.away = True
                world.redis.restart()
                self._loop.outside(fault.seconds, self._back)
            case "stall":
                world.stalled_until_s = max(world.stalled_until_s, self._loop.now_s + fault.seconds)
            case "refuse":
                world.vendor.away = True
                self._loop.outside(fault.seconds, self._listens)
            case "step":
                world.stepped_us += int(fault.seconds * 1_000_000)
            case _:
                for node in self._nodes:
                    node.kill()

    def _back(self) -> None:
        self._world.away = False

    def _well(self) -> None:
        """Whatever the vendor was still going to do, it is well again: a breaker that doubles its patience would go on for long."""
        if self._world.vendor.misbehaves():
            self._world.vendor.heal()
            self._world.healed_s = max(self._world.healed_s, self._loop.now_s)

    def _listens(self) -> None:
        self._world.vendor.away = False

    def _quiet(self) -> bool:
        """Tell whether nothing is under way any more anywhere."""
        world, loop = self._world, self._loop
        if world.healed_s > loop.now_s or self._published < len(self._schedule.sent):
            return False
        if any(node.process.paused for node in self._nodes if node.process.alive):
            return False
        bus = world.redis.space.values.get(BUS)
        if not isinstance(bus, Stream) or GROUP.encode() not in bus.groups:
            return False
        group = bus.groups[GROUP.encode()]
        return not world.redis.space.values.get(RUNS.encode()) and not group.pending and group.last == bus.last

    def _verdict(self, quiet_s: float | None) -> list[Violation]:
        world, bus = self._world, self._world.redis.space.values.get(BUS)
        pending = sum(len(group.pending) for group in bus.groups.values()) if isinstance(bus, Stream) else 0
        results = {json.dumps(one["data"], sort_keys=True): one["data"] for one in self._topic(TOPICS.results)}
        seen = Recording(
            calls=list(self._calls.values()),
            published_total=self._published,
            sums=self._sums(),
            pending=pending,
            results=_told_once(list(results.values())),
            events=list({event["id"]: event for event in self._topic(TOPICS.events)}.values()),
            letters=[letter["data"] for letter in self._topic(TOPICS.letters)],
            limits=parts.limits(limited=self._schedule.limited),
            bound_s=BOUND_S,
            quiet_s=quiet_s,
            demands=list(self._demands()),
        )
        effects = world.vendor.world.record.counts().effects_by_ref
        named = {(operation, ref): times for operation, refs in effects.items() for ref, times in refs.items()}
        return check(seen, Oracle(effects=named, arrivals=world.vendor.world.record.listed()))

    def _demands(self) -> Iterator[Violation]:
        if self._world.forgot:
            yield Violation("X", "Redis was taken for one that has forgotten")
        for node in self._nodes:
            for error in node.errors():
                yield Violation("X", f"{node.process.name} broke", repr(error))

    def _sums(self) -> Sums:
        space = self._world.redis.space
        stats: Any = space.values.get(STATS.encode()) or {}
        live: Any = space.values.get(RUNS.encode()) or {}
        return Sums(counts={name.decode(): int(count) for name, count in stats.items()}, live=len(live))

    def _topic(self, name: str) -> list[dict[str, Any]]:
        kept = self._world.redis.space.values.get(name.encode())
        return [json.loads(fields[1]) for fields in kept.entries.values()] if isinstance(kept, Stream) else []

    def _told(self, violations: list[Violation]) -> Played:
        return Played(
            schedule=self._schedule,
            violations=tuple(violations),
            calls=len(self._calls),
            struck=tuple(self._world.struck),
            steps=self._world.steps,
            seconds=self._loop.now_s,
            states=tuple(sorted(one["data"]["state"] for one in self._topic(TOPICS.results))),
        )

    async def _unwound(self) -> None:
        for node in self._nodes:
            node.unwind()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


def _told_once(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out further refusals of an event that was published again: a refusal leaves no trace, so it is judged anew."""
    kept, refused = [], set()
    for one in results:
        if one["state"] == "rejected":
            if one["request"]["id"] in refused:
                continue
            refused.add(one["request"]["id"])
        kept.append(one)
    return kept


@contextlib.contextmanager
def _ears() -> Iterator[list[str]]:
    """Hear what the gateway logs as an error: nothing that happens here is a reason for one."""
    heard: list[str] = []

    def hear(_: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method in {"error", "exception", "critical"}:
            heard.append(
                f"{event} {structlog.processors.ExceptionRenderer()(None, method, {**event}).get('exception', '')}"
            )
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[hear], cache_logger_on_first_use=False)
    try:
        yield heard
    finally:
        structlog.configure(**before)
