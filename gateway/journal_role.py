"""The role `journal`: the subscriber of `tool-events`, `tool-results` and `dead-letters` that writes SQL, and its housekeeping."""

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog
import uvloop

from gateway import logs, telemetry
from gateway.app import ambient
from gateway.collector import spare_collector
from gateway.endings import ended
from gateway.entrypoints.worker import Chore, keep_house
from gateway.journal import schema
from gateway.journal.database import Away, Database
from gateway.journal.retention import Days, forget
from gateway.journal.store import Store, Written
from gateway.journal.writer import Heard, Source, Terms, Writer
from gateway.lanes.answers import Answers
from gateway.lanes.fleet import Fleet
from gateway.lanes.queue import PASSING
from gateway.lanes.spread.above import AllAnswers
from gateway.lanes.spread.shards import reach
from gateway.lanes.topic_reader import TopicReader
from gateway.lanes.turns import Turn
from gateway.policy.bus_address import kafka_servers
from gateway.ports import Ambient
from gateway.roles import stop_event
from gateway.settings import Settings
from gateway.starting import complain, unsupported
from schemas.moment import microseconds
from schemas.topics import GROUP, Topics, Unread

log = structlog.get_logger()

MEASURE_EVERY_S = 5.0
FORGET_EVERY_S = 60.0
IDLE_MS = 60_000
"""A consumer that holds nothing and has not asked for so long has died: a living one asks every second."""

AGAIN_S = 1.0
"""Between tries to migrate while the database is away."""


class Reader(Source, Protocol):
    """The topics, on whichever bus."""

    async def retire(self, idle_ms: int) -> int:
        """Forget consumers that died."""

    async def unread(self) -> list[Unread]:
        """Say how far the journal is behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The parts of one journal process."""

    writer: Writer
    reader: Reader
    database: Database
    chores: list[Chore]


def journal(settings: Settings) -> int:
    """Be a journal process."""
    logs.configure(settings.log_level)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if complain(unsupported(settings)):
        return 2
    return uvloop.run(run_journal(settings))


async def run_journal(settings: Settings) -> int:
    """Write until SIGTERM or SIGINT; the batch in hand is committed and acknowledged first."""
    stop = stop_event()
    async with AsyncExitStack() as stack:
        joined = await join(stack, settings, ambient("journal"))
        try:
            if not await migrated(joined.database, stop):
                return 0
        except RuntimeError as error:
            complain(str(error))
            return 2
        house = [asyncio.create_task(keep_house(chore)) for chore in joined.chores]
        writing = asyncio.create_task(joined.writer.run())
        spare_collector()
        log.info("journal.started", database=joined.database.name)
        await stop.wait()
        joined.writer.stop()
        await writing
        await ended(house)
        log.info("journal.stopped")
    return 0


async def join(stack: AsyncExitStack, settings: Settings, around: Ambient) -> Joined:
    """Join the parts; the stack takes them apart again."""
    topics = Topics(settings.topic_prefix)
    shards = await stack.enter_async_context(reach(settings.state_url, settings.topic_prefix, settings.shards))
    home = shards.home
    fleet = Fleet(home.redis, home.shard, around.worker, dead_after_s=settings.dead_after)
    reader: Reader = TopicReader(home.listener, fleet, topics.followed)
    away: tuple[type[Exception], ...] = PASSING
    if kafka_servers(settings.bus_url) is not None:
        from gateway.kafka.cluster import brokers_of  # noqa: PLC0415 - a Redis bus does not pay for it
        from gateway.kafka.reader import KafkaReader  # noqa: PLC0415 - a Redis bus does not pay for it
        from gateway.kafka.topics import AWAY  # noqa: PLC0415

        group = f"{topics.prefix}{GROUP}-journal"
        cluster = brokers_of(settings)
        reader = kafka = KafkaReader(cluster, topics.followed, group=group, name=around.worker)
        stack.push_async_callback(kafka.close)
        away = (*PASSING, *AWAY)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.journal, writes=True)
    stack.push_async_callback(database.close)
    terms = Terms(
        batch=settings.journal_batch,
        flush_s=settings.journal_flush,
        result_bytes=settings.journal_result_bytes,
        redis_wait_s=settings.redis_wait,
    )
    turn = Turn(home.redis, home.shard, fleet, name="journal", monotonic=around.monotonic)
    stack.push_async_callback(_left, turn)
    answers = AllAnswers([Answers(seat.redis, seat.shard, ttl_s=settings.answer_ttl) for seat in shards.parts])
    heard = Heard(
        monotonic=around.monotonic,
        away=away,
        wrote=_wrote,
        leads=turn.mine,
        answered=answers.shorten if outlasts_keys(settings) else None,
        skipped=telemetry.record_skipped,
    )
    writer = Writer(reader, Store(database), terms=terms, heard=heard)
    chores = _chores(settings, around, reader, database)
    return Joined(writer=writer, reader=reader, database=database, chores=chores)


async def _left(turn: Turn) -> None:
    with contextlib.suppress(*PASSING):  # then it ends by itself
        await turn.leave()


def outlasts_keys(settings: Settings) -> bool:
    """Tell whether the journal keeps a call at least as long as its key is remembered; else the answer stays in Redis."""
    kept = (settings.journal_keep_done, settings.journal_keep_failed)
    return all(days == 0 or days * 86_400 >= settings.scope_ttl for days in kept)


async def migrated(database: Database, stop: asyncio.Event) -> bool:
    """Bring the database to what this version needs; false when a stop came while it was away."""
    told = False
    while not stop.is_set():
        try:
            step = await schema.migrate(database)
        except Away as error:
            if not told:
                log.warning("journal.sql_away", error=str(error))
            told = True
            try:
                async with asyncio.timeout(AGAIN_S):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            log.info("journal.migrated", step=step, database=database.name)
            return True
    return False


def _wrote(written: Written) -> None:
    telemetry.record_journal({"calls": written.calls, "events": written.events, "letters": written.letters})


def _chores(settings: Settings, around: Ambient, reader: Reader, database: Database) -> list[Chore]:
    days = Days(
        done=settings.journal_keep_done, failed=settings.journal_keep_failed, letters=settings.journal_keep_letters
    )

    async def measure() -> None:
        telemetry.record_unread(await reader.unread(), microseconds(around.now()))

    async def clean() -> None:
        await reader.retire(IDLE_MS)
        try:
            await forget(database, days, microseconds(around.now()), _forgotten)
        except Away as error:
            log.warning("journal.sql_away", error=str(error))

    return [
        Chore(name="journal.measure", every_s=MEASURE_EVERY_S, run=measure),
        Chore(name="journal.forget", every_s=FORGET_EVERY_S, run=clean),
    ]


def _forgotten(kind: str, rows: int) -> None:
    log.info("journal.forgot", kind=kind, rows=rows)
