"""Where a schedule is played: one Redis, one vendor, their wires, and the faults that strike at doors and at times."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from connectors.exchange import Exchange, RenderedRequest, SendPolicy
from tests.simulation.schedule import Fault, Schedule
from tests.twins.loop import RESOLUTION_S, Process, VirtualLoop
from tests.twins.redis_twin import RedisTwin
from tests.twins.vendor import TwinEngine, TwinVendor

START: Final = datetime(2026, 11, 21, 9, tzinfo=UTC)
START_US: Final = int(START.timestamp()) * 1_000_000
PATIENCE_S: Final = 10.0
"""How long a client of Redis waits for a reply, as `gateway.lanes.connect` has it."""

BUS: Final = b"tool-calls"
AWAY: Final = "Connection closed by server."


@dataclass
class World:
    """One run's surroundings."""

    schedule: Schedule
    loop: VirtualLoop
    altered: Mapping[str, str] = field(default_factory=dict)
    """Scripts that are not as they should be; see `defects`."""
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    """What has yet to strike at the doors of each place."""
    struck: list[Fault] = field(default_factory=list)
    """The faults that came to pass."""
    healed_s: float = 0.0
    """When the last of them was over."""
    steps: int = 0
    """How often a worker reached out of itself."""
    forgot: int = 0
    """How often a worker found that Redis has forgotten, which it never does here."""
    alerts: list[str] = field(default_factory=list)
    stepped_us: int = 0
    """How far Redis' clock is ahead."""
    away: bool = False
    stalled_until_s: float = 0.0

    def __post_init__(self) -> None:
        self.dice = Random(f"{self.schedule.seed}/world")
        self.redis = RedisTwin(lambda: self.now_us() + self.stepped_us, self.altered)
        self.vendor = TwinVendor(self.now_us)
        self.engine = TwinEngine(self.vendor, self.latency)
        self.files: dict[str, str] = {}
        """What the data directory holds."""
        self.redis.space.added = self._tell_readers
        self._readers: list[asyncio.Future[None]] = []
        for operation, behaviour in self.schedule.behaviours:
            self.vendor.world.script.set(operation, [behaviour], append=True)

    def now_us(self) -> int:
        """Return the time in microseconds since the epoch."""
        return START_US + int(self.loop.now_s * 1_000_000)

    def now(self) -> datetime:
        """Return the time."""
        return START + timedelta(seconds=self.loop.now_s)

    async def published(self, most_s: float) -> None:
        """Wait until a stream was added to, as a read that blocks does."""
        waiter = self.loop.create_future()
        self._readers.append(waiter)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiter, most_s)

    def _tell_readers(self, stream: bytes) -> None:
        if stream != BUS:
            return
        readers, self._readers = self._readers, []
        for waiter in readers:
            if not waiter.done():
                self.loop.outside(self.latency(), _done, waiter)

    def latency(self) -> float:
        """Draw the seconds of one way over a wire: mostly short, sometimes long enough that others overtake."""
        return self.dice.uniform(0.00005, 0.0005) if self.dice.random() < 0.9 else self.dice.uniform(0.0005, 0.02)


def _done(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class Doors:
    """Where one worker reaches out of itself; the faults that are for it strike here."""

    def __init__(self, world: World, process: Process, number: int, kill: Callable[[], None]) -> None:
        self._world = world
        self._process = process
        self._kill = kill
        self._passed: Counter[str] = Counter()
        self._faults = world.faults.setdefault(
            number, [fault for fault in world.schedule.faults if fault.door and fault.worker == number]
        )

    async def wire(self, name: str, run: Callable[[], Any]) -> Any:
        """Send a command to Redis; what is on its way arrives, whatever becomes of who sent it."""
        fault = self._fault(name)
        loop = self._world.loop
        back: asyncio.Future[Any] = loop.create_future()
        if fault is not None and not fault.after:
            await self._strike(fault)
            if fault.kind == "lose":
                raise RedisConnectionError(AWAY)
        _Trip(self, back, run, loop.now_s, fault if fault is not None and fault.after else None).depart()
        return await back

    async def send(self, request: RenderedRequest, policy: SendPolicy) -> Exchange:
        """Send a request to the vendor; as `Engine.send`."""
        fault = self._fault("vendor")
        world = self._world
        if fault is not None and not fault.after:
            await self._strike(fault)
        elif fault is not None:
            # While it is under way: before it arrives, while the vendor works, or when the answer is here.
            world.loop.outside(world.dice.choice((0.0, 0.001, 0.03, 1.0)), self._hit, fault)
        return await world.engine.send(request, policy)

    def _fault(self, name: str) -> Fault | None:
        if self._process.ending:
            raise asyncio.CancelledError
        self._world.steps += 1
        if not self._faults:
            return None
        self._passed[name] += 1
        for fault in self._faults:
            if fault.door == name and fault.nth == self._passed[name]:
                # It strikes once: whoever lives here next has troubles of its own.
                self._faults.remove(fault)
                return fault
        return None

    async def _strike(self, fault: Fault) -> None:
        self._hit(fault)
        if not self._process.alive or self._process.paused:
            # Whatever this step does next, it does when the process goes on, if ever.
            await asyncio.sleep(0)

    def _hit(self, fault: Fault) -> None:
        world, process = self._world, self._process
        if not process.alive or process.ending:
            return
        world.struck.append(fault)
        world.healed_s = max(world.healed_s, world.loop.now_s + fault.seconds)
        if fault.kind == "kill":
            self._kill()
        elif fault.kind == "pause" and not process.paused:
            process.paused = True
            world.loop.outside(fault.seconds, self._wake)

    def _wake(self) -> None:
        if self._process.alive and self._process.paused:
            self._process.go_on(self._world.loop)


class _Trip:
    """A command on its way to Redis and its reply on the way back; neither belongs to the process that waits for it."""

    __slots__ = ("_back", "_began_s", "_doors", "_fault", "_run", "_world")

    def __init__(
        self, doors: Doors, back: "asyncio.Future[Any]", run: Callable[[], Any], began_s: float, fault: Fault | None
    ) -> None:
        self._doors = doors
        self._world = doors._world
        self._back = back
        self._run = run
        self._began_s = began_s
        self._fault = fault

    def depart(self) -> None:
        self._world.loop.outside(self._world.latency(), self._arrive)

    def _arrive(self) -> None:
        world = self._world
        wait_s = world.stalled_until_s - world.loop.now_s
        if wait_s > RESOLUTION_S:
            # A server that is stopped reads what lies in its sockets when it goes on, also from clients that have given up.
            world.loop.outside(wait_s, self._arrive)
            left_s = self._began_s + PATIENCE_S - world.loop.now_s
            if wait_s > left_s:
                world.loop.outside(max(0.0, left_s), self._fail, RedisTimeoutError("Timeout reading from socket"))
            return
        if world.away:
            world.loop.outside(world.latency(), self._fail, RedisConnectionError(AWAY))
            return
        try:
            reply = self._run()
        except ResponseError as error:
            world.loop.outside(world.latency(), self._fail, error)
            return
        if self._fault is not None:
            self._doors._hit(self._fault)
            if self._fault.kind == "lose":
                world.loop.outside(world.latency(), self._fail, RedisConnectionError(AWAY))
                return
        world.loop.outside(world.latency(), self._answer, reply)

    def _answer(self, reply: Any) -> None:
        if self._world.away:
            self._fail(RedisConnectionError(AWAY))
        elif not self._back.done():
            self._back.set_result(reply)

    def _fail(self, error: Exception) -> None:
        if not self._back.done():
            self._back.set_exception(error)
