"""Sends the outbox on to another bus: in its order, keyed by session, by one process of the fleet at a time.

The outbox's place moves only after the bus's word. Whatever dies in between is sent again, with the same event ids.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import msgspec
import structlog

from gateway.kafka.producer import Message, Unsent
from gateway.lanes.queue import PASSING
from schemas.codec import encode
from schemas.topics import TopicEntry

log = structlog.get_logger()

LEASE_S: Final = 20.0
"""How long nobody else has the turn: longer than one sending may take."""

SEND_S: Final = 10.0
"""How long one sending may take, until its producer is replaced."""

MOST: Final = 256
"""Entries of a topic that are sent together."""

BATCH_BYTES: Final = 16 << 20
"""What is sent together should not be larger: the next batch is as much smaller as the last was too large."""

WAIT_MS: Final = 1000
OTHERS_S: Final = 0.5
"""Between looks whether the turn has become free."""

AGAIN_S: Final = (0.2, 3.0)
"""First and longest pause while the bus is away."""

SMALL: Final = 4096
"""Characters of a value that stays in an event which is too large for its topic."""


class Outbox(Protocol):
    """What the relay needs of it."""

    async def turn(self, lease_s: float) -> bool:
        """Take or keep the turn."""

    async def places(self) -> dict[str, str]:
        """Return how far each topic was sent on."""

    async def read(self, places: dict[str, str], *, most: int, wait_ms: int) -> list[TopicEntry]:
        """Return what stands behind the places."""

    async def sent(self, topic: str, before: str, after: str, count: int) -> bool:
        """Move the place of a topic."""


class Producer(Protocol):
    """What the relay needs of a bus."""

    async def ready(self) -> int:
        """Connect, and return the largest record that is taken; raises `Unsent`."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Return when the bus has it all; raises `Unsent`."""

    async def close(self) -> None:
        """Send nothing more."""


class _Identity(msgspec.Struct):
    session: str | None = None


class _Data(msgspec.Struct):
    session: str | None = None
    call: str | None = None
    identity: _Identity | None = None


class _Event(msgspec.Struct):
    id: str = ""
    subject: str | None = None
    data: _Data = msgspec.field(default_factory=_Data)


_read = msgspec.json.Decoder(_Event).decode


class Relay:
    """One process's; it waits while another has the turn."""

    def __init__(
        self,
        outbox: Outbox,
        producer: Producer,
        sent: Callable[[int], None] = lambda _: None,
        public: Mapping[str, str] | None = None,
    ) -> None:
        """`sent` is told how many events the bus has taken; `public` says how a topic is called there, if not the same."""
        self._public = public or {}
        self._outbox = outbox
        self._producer = producer
        self._sent = sent
        self._places: dict[str, str] | None = None
        self._most = MOST
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the entries in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Send on until `stop`; Redis or the bus being away is waited out."""
        pause_s = AGAIN_S[0]
        try:
            while not self._stopping.is_set():
                try:
                    if not await self.turn(WAIT_MS):
                        await self._pause(OTHERS_S)
                    pause_s = AGAIN_S[0]
                except (*PASSING, Unsent) as error:
                    log.warning("relay.waits", error=f"{type(error).__name__}: {error}"[:300])
                    self._places = None
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, AGAIN_S[1])
                except Exception:
                    # Whatever it is, a relay that gave up would let the outbox grow.
                    log.exception("relay.broken")
                    self._places = None
                    await self._pause(AGAIN_S[1])
        finally:
            await self._producer.close()

    async def turn(self, wait_ms: int) -> bool:
        """Send on once what there is; false when another process has the turn."""
        if not await self._outbox.turn(LEASE_S):
            if self._places is not None:
                self._places = None
                # What it still holds would come after what the other one sends.
                await self._producer.close()
            return False
        if self._places is None:
            self._places = await self._outbox.places()
        entries = await self._outbox.read(self._places, most=self._most, wait_ms=wait_ms)
        if entries:
            size = sum(len(one.raw) for one in entries)
            self._most = min(MOST, 2 * self._most) if size < BATCH_BYTES else max(1, self._most * BATCH_BYTES // size)
            await self._send(entries)
        return True

    async def _send(self, entries: Sequence[TopicEntry]) -> None:
        places = self._places or {}
        if not await self._outbox.turn(LEASE_S):  # the wait before may have been a long one
            self._places = None
            return
        most_bytes = await self._producer.ready()
        messages = [message_of(entry, most_bytes) for entry in entries]
        if self._public:
            messages = [replace(one, topic=self._public[one.topic]) for one in messages]
        await self._producer.send(messages)
        for topic in dict.fromkeys(entry.topic for entry in entries):
            some = [entry for entry in entries if entry.topic == topic]
            if not await self._outbox.sent(topic, places[topic], some[-1].id, len(some)):
                log.warning("relay.turn_lost", topic=topic)
                self._places = None
                return
            places[topic] = some[-1].id
        self._sent(len(entries))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def message_of(entry: TopicEntry, most_bytes: int) -> Message:
    """Make the record: keyed by session, so that what belongs together stays in order."""
    try:
        event = _read(entry.raw)
        data = event.data
        session = data.session or (data.identity and data.identity.session)
        key = session or data.call or event.subject or event.id
    except (msgspec.DecodeError, UnicodeDecodeError):  # anybody may write to a stream
        key = ""
    value = entry.raw if len(entry.raw) + len(key.encode()) <= most_bytes else shortened(entry.raw)
    return Message(topic=entry.topic, key=key.encode() or None, value=value)


def shortened(raw: bytes) -> bytes:
    """Leave out what makes an event too large for its topic; one that waited for ever would hold up all behind it."""
    try:
        event: dict[str, Any] = msgspec.json.decode(raw)
        data = event["data"]
        kept = {name: value for name, value in data.items() if len(encode(value)) <= SMALL}
        left_out = sorted(data.keys() - kept.keys())
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError):
        log.error("relay.too_large", bytes=len(raw))  # noqa: TRY400 - it is no event of ours
        return raw[:SMALL]
    log.error("relay.too_large", id=event.get("id"), bytes=len(raw), left_out=left_out)
    return encode({**event, "data": {**kept, "left_out": left_out}})
