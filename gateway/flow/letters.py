"""Letters: the case file of what ended badly, sealed and rendered for `dead-letters`.

Large parts go to disk, off the loop; they are there before the script writes the letter that names them.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlsplit

import structlog

from connectors.catalog import Catalog
from connectors.declared import Connection
from dlq import letter
from dlq.blobs import BlobStoreFull
from dlq.redaction import Seal, Sealer
from gateway.flow.intake import Entry
from gateway.flow.letter_moves import unread
from gateway.flow.reports import Finished
from gateway.ports import Ambient
from schemas.cloudevent import publishable
from schemas.codec import Undecodable
from schemas.dead_letter import DeadLetter
from schemas.letter import Opened

log = structlog.get_logger()
T = TypeVar("T")
Alert = Callable[[str, dict[str, object]], Awaitable[None]]

ROOM_S = 2.0
"""Seconds between looks for room while the blob store is full."""


class Letters:
    """Writes letters for intake and delivery."""

    def __init__(self, seal: Sealer, catalog: Callable[[], Catalog], ambient: Ambient, alert: Alert) -> None:
        """`seal` may block: it encrypts and may write a file; `alert` publishes an alert of the gateway itself."""
        self._alert = alert
        self._inline = replace(seal, inline_most=sys.maxsize)
        self._seal = seal
        self._catalog = catalog
        self._ambient = ambient

    async def for_entry(self, entry: Entry, verdict: Undecodable) -> tuple[Opened, str]:
        """Render the letter of an event that could not be, or was not, decoded; also how it stands."""
        now = self._ambient.now()
        facts = letter.Unread(
            raw=entry.raw,
            source=letter.Arrival(
                engine=entry.engine, stream=entry.stream, entry=entry.id, deliveries=entry.deliveries
            ),
            verdict=verdict,
            worker=self._ambient.worker,
            at=now,
        )
        record = await self._kept(facts)
        return unread(record), publishable(letter.as_event(record, now))

    async def for_call(self, finished: Finished, verdict: str) -> str:
        """Render the letter of a failed or escalated call."""
        now = self._ambient.now()
        ended = letter.Ended(
            call=finished.call,
            outcome=finished.outcome,
            effect=finished.effect,
            attempts=finished.attempts,
            total=finished.tries,
            state=finished.state,
            worker=self._ambient.worker,
            at=now,
            verdict=verdict,
            failure=finished.failure,
            target=self._target(finished),
            secrets=self._secrets(finished),
        )
        record = await self._written(letter.for_call, ended, finished.letter or "")
        return publishable(letter.as_event(record, now))

    async def _kept(self, facts: letter.Unread) -> DeadLetter:
        """Write an event's letter; while there is no room for its bytes, intake waits, and somebody is told."""
        letter_id, told = self._ambient.id_for(""), False
        while True:
            try:
                return await asyncio.to_thread(letter.undecodable, facts, letter_id, self._seal)
            except (BlobStoreFull, OSError) as error:
                if not told:
                    await self._alert(
                        "gateway.blobs_full", {"error": str(error), "action": "Free space in SLUICE_DATA."}
                    )
                told = True
                await asyncio.sleep(ROOM_S)

    async def _written(self, write: Callable[[T, str, Seal], DeadLetter], what: T, letter_id: str) -> DeadLetter:
        """Write with large parts on disk; where that fails they stand in the letter itself: the call has ended and must be told."""
        try:
            return await asyncio.to_thread(write, what, letter_id, self._seal)
        except (BlobStoreFull, OSError) as error:
            log.error("letter.blob_refused", letter=letter_id, error=str(error))  # noqa: TRY400 - the message is the story
            return write(what, letter_id, self._inline)

    def _target(self, finished: Finished) -> letter.Target | None:
        operation = self._catalog().operation(finished.call.tool)
        if operation is None:
            return None
        connection = self._connection(finished)
        base = (connection and connection.base_url) or operation.base_url
        return letter.Target(method=operation.method, host=urlsplit(base).netloc, path_template=operation.path)

    def _secrets(self, finished: Finished) -> tuple[str, ...]:
        connection = self._connection(finished)
        return connection.revealing() if connection else ()

    def _connection(self, finished: Finished) -> Connection | None:
        catalog = self._catalog()
        operation = catalog.operation(finished.call.tool)
        found = catalog.connection_for(operation, finished.call.connection) if operation else None
        return found if isinstance(found, Connection) else None
