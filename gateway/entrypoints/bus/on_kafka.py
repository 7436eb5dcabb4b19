"""The bus on Kafka: FastStream subscribes, the delivery guarantee is ours.

A batch is in its lanes, and each record marked there, before its offsets are committed, explicitly and per partition. Whatever happens
in between to a commit, to the group or to this process, a record that comes again finds its mark. Decided in ADR 0018.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage

from gateway.entrypoints.bus.alone import Alone
from gateway.entrypoints.bus.polls import Polls
from gateway.entrypoints.bus.port import BusAway, BusUnfit
from gateway.entrypoints.bus.quiet import quiet
from gateway.entrypoints.bus.records import entry_of
from gateway.entrypoints.bus.rereading import Rereading, again
from gateway.entrypoints.bus.security import security_of
from gateway.flow.intake import Entry, Intake
from gateway.kafka.cluster import REQUEST_MS, Cluster
from gateway.kafka.topics import AWAY, Unfit, Wanted, ensure
from gateway.lanes.offsets import Forgotten, Kept, Note
from gateway.lanes.queue import PASSING
from gateway.lanes.spread.above import AllOffsets

log = structlog.get_logger()

LET_GO_S: Final = 15.0
"""How long a rebalance waits for the batch in hand. Beyond it the batch goes on, and its marks speak for it."""

REJOIN_S: Final = 60.0
"""How long the group waits for its members in a rebalance: longer than that."""

COMMIT_S: Final = 5.0
"""How long a commit may take; the next one says more."""

STOP_S: Final = 5.0
"""How long leaving the group may take."""

AGAIN_S: Final = 0.5
"""Pause before a batch that failed is read again."""

BROKEN_S: Final = 5.0
"""A consumer that has answered with nothing but errors for so long is replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Where and how to read."""

    cluster: Cluster
    topic: str
    group: str
    consumer: str
    """This process's name."""
    batch: int
    session_s: float
    """How long without a sign of life until others take over."""
    poll_within_s: float
    """How long a batch may take until the group takes this process for stuck."""
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What takes the records in."""

    intake: Intake
    offsets: AllOffsets
    alone: Alone
    rereading: Rereading


async def _parse(records: Any) -> KafkaMessage:
    """Hand the batch on undecoded; it cannot fail, so no body and no header can make a batch unreadable."""
    return KafkaMessage(raw_message=records, body=records, consumer=FAKE_CONSUMER)


async def _decode(message: Any) -> Any:
    return message.body


class KafkaBus:
    """The subscription of one worker process to `tool-calls`."""

    def __init__(self, terms: Terms, parts: Parts) -> None:
        """Reads nothing before `start`."""
        self._terms = terms
        self._parts = parts
        self.paused = False
        self._stopped = False
        self._letting_go = False
        self._turn = asyncio.Lock()  # two that start or stop the subscription at once would leave it half in both
        self._hand = asyncio.Lock()
        self._known: dict[TopicPartition, Kept] = {}
        """The partitions that were looked up: up to which record each is taken in alone, and what a lost state had taken in."""
        self._committed: dict[TopicPartition, int] = {}
        """What is told with the next note."""
        self._polls = Polls()
        self._connected = False
        self._broker = KafkaBroker(
            list(terms.cluster.servers),
            security=security_of(terms.cluster),
            client_id=terms.consumer,
            request_timeout_ms=REQUEST_MS,
            consumer_only=True,
            allow_auto_create_topics=False,
            graceful_timeout=STOP_S,
            logger=quiet(),
            apply_types=False,
        )
        self._subscriber: Any = self._broker.subscriber(
            terms.topic,
            batch=True,
            group_id=terms.group,
            max_records=terms.batch,
            batch_timeout_ms=1,  # it is slept once more after each empty read; our own read waits instead
            auto_offset_reset="earliest",
            session_timeout_ms=int(terms.session_s * 1000),
            heartbeat_interval_ms=int(terms.session_s * 1000 / 3),
            rebalance_timeout_ms=int(REJOIN_S * 1000),
            max_poll_interval_ms=int(terms.poll_within_s * 1000),
            listener=_Listener(self._revoked, self._assigned),
            ack_policy=AckPolicy.MANUAL,
            parser=_parse,
            decoder=_decode,
        )
        self._subscriber(self._take_in)

    async def prepare(self) -> None:
        """Create or check the topics."""
        try:
            await ensure(self._terms.cluster, self._terms.wanted)
        except Unfit as error:
            raise BusUnfit(str(error)) from error
        except AWAY as error:
            raise BusAway(f"{type(error).__name__}: {error}") from error

    async def start(self) -> None:
        """Begin to read; a broker that is away is tried again by whoever looks after the bus."""
        async with self._turn:
            await self._open()

    async def stop(self) -> None:
        """Finish the batch in hand and read no more, whatever is asked for later."""
        self._stopped = True
        async with self._turn:
            await self._close()

    async def pause(self) -> None:
        """Read no more for now; polling goes on, so that the group keeps this member."""
        self.paused = True
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())

    async def resume(self) -> None:
        """Read again."""
        self.paused = False
        if self._consumer is not None:
            self._consumer.resume(*self._consumer.assignment())

    async def look_after(self) -> None:
        """Replace a consumer that gave up, or that answers with nothing but errors; read again what the state has lost."""
        async with self._turn:
            if self._stopped:
                return
            if self._gave_up():
                await self._close()
                if await self._open():
                    log.warning("bus.restarted", stream=self._terms.topic)
                return
            if not self._hand.locked():  # otherwise the batch in hand finds out by itself
                async with self._hand:
                    await self._read_again()

    async def _read_again(self) -> None:
        """Where it does not come off, the next look does it."""
        try:
            back = await self._parts.rereading.look(self._consumer, self._polls)
        except Forgotten:
            await self._parts.rereading.find_out()
            return
        except (*AWAY, IllegalStateError) as error:
            log.info("bus.not_read_again", error=type(error).__name__)
            return
        for place in back:
            self._known.pop(place, None)
            self._committed.pop(place, None)

    async def sweep(self) -> int:
        """Take in again what waits for the journal; what a dead reader has left the group hands out by itself."""
        found = await self._parts.offsets.aside()
        entries = [Entry(stream=self._terms.topic, id=key, raw=raw, engine="kafka") for key, raw in found.items()]
        waiting = await self._parts.intake.from_bus(entries) if entries else []
        return len(entries) - len(waiting)

    def _gave_up(self) -> bool:
        tasks = self._subscriber.tasks
        if self._consumer is None or not tasks or all(task.done() for task in tasks):
            return True
        return self._polls.failing_for() > BROKEN_S

    async def _open(self) -> bool:
        try:
            if not self._connected:
                await self._broker.connect()
                self._connected = True
            await self._subscriber.start()
        except AWAY as error:
            log.warning("bus.away", error=f"{type(error).__name__}: {error}")
            await self._close()
            return False
        self._polls.of(self._consumer)
        return True

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(2 * STOP_S):
                await self._subscriber.stop()
        except AWAY as error:
            log.warning("bus.left_late", error=type(error).__name__)
            self._subscriber.consumer = None

    @property
    def _consumer(self) -> Any:
        return self._subscriber.consumer

    async def _revoked(self) -> None:
        self._letting_go = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LET_GO_S), self._hand:
                pass

    async def _assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._letting_go = False
        self._known.clear()
        self._polls.assigned()
        if self.paused and self._consumer is not None:
            self._consumer.pause(*assigned)

    async def _take_in(self, records: Sequence[Any]) -> None:
        """Put one batch into its lanes and commit it; when that fails it is read again."""
        batch: dict[TopicPartition, list[Any]] = {}
        for record in records:
            batch.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        consumer = self._consumer
        async with self._hand:
            # What was handed on before its partition was sent back comes again: its place is further on than what is stored.
            batch = {
                place: some for place, some in batch.items() if not self._polls.went_back(place, some[-1].offset + 1)
            }
            done, lost = {}, False
            try:
                done = await self._stored(consumer, batch)
                await self._commit(consumer, done)
            except Forgotten as error:
                log.warning("bus.state_lost", found=str(error))
                lost = True
            except Exception as error:
                if isinstance(error, (*PASSING, *AWAY)):
                    log.warning("bus.batch_again", error=type(error).__name__)
                else:
                    log.exception("bus.batch_failed")
            self._go_back(consumer, batch, done)
            if lost:
                await self._after_a_loss()
        if not done:
            await asyncio.sleep(AGAIN_S)

    def _go_back(
        self, consumer: Any, batch: Mapping[TopicPartition, list[Any]], done: Mapping[TopicPartition, int]
    ) -> None:
        """Read again what was not stored: the next commit would jump over it."""
        for place, some in batch.items():
            if done.get(place, 0) <= some[-1].offset:
                with contextlib.suppress(IllegalStateError, AttributeError):
                    self._polls.back(consumer, place, max(done.get(place, 0), some[0].offset))

    async def _after_a_loss(self) -> None:
        try:
            await self._parts.rereading.find_out()
            await self._read_again()
        except PASSING as error:
            log.warning("bus.batch_again", error=type(error).__name__)

    async def _stored(self, consumer: Any, batch: Mapping[TopicPartition, list[Any]]) -> dict[TopicPartition, int]:
        """Return the next record of each partition."""
        for place in batch.keys() - self._known.keys():
            self._known[place] = await self._looked_up(consumer, place, batch[place][0])
        known = {place: self._known.get(place, Kept()) for place in batch}  # a rebalance in between forgets all of it
        await self._parts.offsets.note([self._note(place, some, known[place]) for place, some in batch.items()])
        done: dict[TopicPartition, int] = {}
        together: list[Entry] = []
        for place, some in batch.items():
            entries = [again(entry_of(one, place.topic), one, known[place]) for one in some]
            suspects = sum(one.offset <= known[place].in_hand for one in some)
            taken = await self._alone(entries[:suspects])
            if taken == suspects < len(some):
                together += entries[suspects:]
                taken = len(some)
            if taken:
                done[place] = some[taken - 1].offset + 1
        if together:
            waiting = set(await self._parts.intake.from_bus(together))
            await self._parts.offsets.put_aside({entry.id: entry.raw for entry in together if entry.id in waiting})
        return done

    async def _alone(self, suspects: Sequence[Entry]) -> int:
        """Take records in one by one, and return how many; a rebalance does not wait for all of them."""
        taken = 0
        for entry in suspects:
            if self._letting_go:
                break
            if not await self._parts.alone.take(self._parts.intake, entry):
                await self._parts.offsets.put_aside({entry.id: entry.raw})
            taken += 1
        return taken

    def _note(self, place: TopicPartition, some: Sequence[Any], known: Kept) -> Note:
        last = max(some[-1].offset, known.in_hand)
        committed = self._committed.pop(place, None)
        return Note(partition=place.partition, first=some[0].offset, last=last, committed=committed)

    async def _looked_up(self, consumer: Any, place: TopicPartition, first: Any) -> Kept:
        """Find out what the reader before had in hand.

        A place is committed at once where there is none: from then on none means a topic that was made anew, or a group that was forgotten.
        """
        async with asyncio.timeout(COMMIT_S):
            committed = await consumer.committed(place)
        kept = (await self._parts.offsets.kept([place.partition]))[place.partition]
        if committed is not None:
            await self._parts.offsets.note([Note(partition=place.partition, committed=committed)])
            return kept
        if kept.noted_ms is not None and first.timestamp > kept.noted_ms:
            log.warning("bus.topic_anew", topic=place.topic, partition=place.partition)
            await self._parts.offsets.note([Note(partition=place.partition, first=0, last=0, anew=True)])
            kept = type(kept)()
        await self._commit(consumer, {place: first.offset})
        return kept

    async def _commit(self, consumer: Any, done: Mapping[TopicPartition, int]) -> None:
        """Commit for a moment; one that fails is dropped, because the marks speak for what is stored."""
        try:
            async with asyncio.timeout(COMMIT_S):
                await consumer.commit(dict(done))
        except (*AWAY, IllegalStateError) as error:
            log.info("bus.commit_dropped", error=type(error).__name__)
        else:
            self._committed |= done


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """Hands on what the group says."""

    def __init__(self, revoked: Callable[[], Any], assigned: Callable[[Iterable[TopicPartition]], Any]) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked  # always all of them
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._assigned(assigned)
