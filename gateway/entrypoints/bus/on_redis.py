"""The bus on Redis streams: FastStream subscribes, the delivery guarantee is ours.

FastStream reads batches and never decodes or acknowledges: intake's script does that in the step that stores the calls.
What FastStream may strand (a stop between read and handler, a crash, a lost group) the sweeper finds and takes in again,
each entry alone, so that one that kills its reader is found out.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, cast

import msgspec
import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, RedisBatchStreamMessage
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.quiet import quiet
from gateway.flow.intake import Entry, Intake
from gateway.lanes.fleet import Fleet
from gateway.lanes.queue import PASSING
from schemas.topics import FIELD, GROUP

log = structlog.get_logger()

POLL_MS = 1000
"""How long one read waits for entries, milliseconds; a stop waits no longer than this."""

FORGOTTEN_MS = 30_000
"""An entry that a living consumer has left alone for so long was dropped between its read and its handler."""

_FIELD = FIELD.encode()


def raw_of(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the event; of an entry that has it in no field, all fields, so that what was sent can be read in its letter."""
    raw = fields.get(_FIELD)
    if raw is not None or not fields:
        return raw or b""
    return msgspec.json.encode({_text(name): _text(value) for name, value in fields.items()})


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


async def _parse(message: Any) -> RedisBatchStreamMessage:
    """Hand the batch on undecoded; it cannot fail, so no body can make a batch unreadable."""
    entries = [
        (key.decode(), raw_of(fields)) for key, fields in zip(message["message_ids"], message["data"], strict=True)
    ]
    return RedisBatchStreamMessage(raw_message=message, body=entries, consumer=FAKE_CONSUMER, group=GROUP)


async def _decode(message: RedisBatchStreamMessage) -> Any:
    return message.body


class Bus:
    """The subscription of one worker process to `tool-calls`."""

    def __init__(self, url: str, stream: str, intake: Intake, *, consumer: str, batch: int) -> None:
        """`consumer` is unique to this process; `batch` bounds one read."""
        self.stream = stream
        self._intake = intake
        self.paused = False
        self._stopped = False
        self._turn = asyncio.Lock()  # two that start or stop the subscription at once would leave it half in both
        self._broker = RedisBroker(url, logger=quiet(), apply_types=False)
        sub = StreamSub(stream, group=GROUP, consumer=consumer, batch=True, max_records=batch, polling_interval=POLL_MS)
        self._subscriber = self._broker.subscriber(
            stream=sub, ack_policy=AckPolicy.MANUAL, parser=_parse, decoder=_decode
        )
        self._subscriber(self._take_in)

    async def start(self) -> None:
        """Begin to read; the group must exist."""
        async with self._turn:
            await self._broker.start()

    async def stop(self) -> None:
        """Finish the batch in hand and read no more, whatever is asked for later."""
        self._stopped = True
        async with self._turn:
            await self._broker.stop()

    async def pause(self) -> None:
        """Read no more for now: what is published waits on the stream."""
        async with self._turn:
            self.paused = True
            if not self._stopped:
                await self._subscriber.stop()

    async def resume(self) -> None:
        """Read again."""
        async with self._turn:
            if not self._stopped:
                await self._subscriber.start()
            self.paused = False

    async def ensure_running(self) -> bool:
        """Start again a subscription that gave up (its group was gone); true when it had."""
        async with self._turn:
            if self._stopped or self.paused or self._subscriber.running:
                return False
            await self._subscriber.start()
            return True

    async def _take_in(self, entries: list[tuple[str, bytes]]) -> None:
        await self._intake.from_bus([Entry(stream=self.stream, id=key, raw=raw) for key, raw in entries])


class Retires(Protocol):
    """What the sweeper needs of the lanes."""

    async def retire(self, stream: str, consumer: str) -> bool:
        """Forget a consumer of ours that holds nothing."""


class Sweeper:
    """Takes in again what was left pending, one entry at a time."""

    def __init__(self, lanes: Retires, redis: "Redis", stream: str, fleet: Fleet, alone: Alone) -> None:
        """`alone` says which entries are poison."""
        self._lanes = lanes
        self._redis = redis
        self._stream = stream
        self._fleet = fleet
        self._alone = alone

    async def sweep(self, intake: Intake, *, dead_idle_ms: int) -> int:
        """Look once; entries of the dead must have rested `dead_idle_ms`. Returns how many entries were taken in."""
        taken = 0
        try:
            consumers = await self._redis.xinfo_consumers(self._stream, GROUP)
        except ResponseError:  # no stream or no group: Redis was emptied, and nothing is pending
            return 0
        for consumer in consumers:
            name = cast("bytes", consumer["name"]).decode()
            alive = name == self._fleet.worker or await self._fleet.alive(name)
            idle_ms = FORGOTTEN_MS if alive else dead_idle_ms
            if consumer["pending"]:
                taken += await self._sweep_consumer(intake, name, idle_ms)
            elif not alive:
                await self._lanes.retire(self._stream, name)
        return taken

    async def _sweep_consumer(self, intake: Intake, consumer: str, idle_ms: int) -> int:
        pending = await self._redis.xpending_range(
            self._stream, GROUP, "-", "+", 100, consumername=consumer, idle=idle_ms
        )
        taken = 0
        for facts in pending:
            try:
                taken += await self._adopt(intake, cast("bytes", facts["message_id"]), idle_ms)
            except PASSING:
                raise
            except Exception:
                # One entry's trouble must not keep those behind it waiting.
                log.exception("sweep.failed", entry=facts["message_id"])
        return taken

    async def _adopt(self, intake: Intake, key: bytes, idle_ms: int) -> int:
        claimed = await self._redis.xclaim(self._stream, GROUP, self._fleet.worker, idle_ms, [key])
        if not claimed:
            return 0
        fields = cast("dict[bytes, bytes]", claimed[0][1]) or {}
        await self._alone.take(intake, Entry(stream=self._stream, id=key.decode(), raw=raw_of(fields)))
        return 1


class RedisBus:
    """The port on a Redis stream: the subscription, its group, and what was left behind."""

    def __init__(self, bus: Bus, sweeper: Sweeper, fleet: Fleet, *, intake: Intake, dead_idle_ms: int) -> None:
        """Entries of the dead must have rested `dead_idle_ms`."""
        self._bus = bus
        self._sweeper = sweeper
        self._fleet = fleet
        self._intake = intake
        self._dead_idle_ms = dead_idle_ms
        self.start, self.stop, self.pause, self.resume = bus.start, bus.stop, bus.pause, bus.resume

    @property
    def paused(self) -> bool:
        """Whether reading was told to wait."""
        return self._bus.paused

    async def prepare(self) -> None:
        """Create the group."""
        await self._fleet.ensure_group(self._bus.stream)

    async def look_after(self) -> None:
        """Create the group again where it is gone, and start a subscription that gave up."""
        if await self._fleet.ensure_group(self._bus.stream):
            log.warning("bus.group_created", stream=self._bus.stream)
        if await self._bus.ensure_running():
            log.warning("bus.restarted", stream=self._bus.stream)

    async def sweep(self) -> int:
        """Take in what was left pending."""
        return await self._sweeper.sweep(self._intake, dead_idle_ms=self._dead_idle_ms)
