"""A producer that gives its word: what `send` returned from is with the broker, in order, or it raised.

The batches of an idempotent producer never expire by themselves, and after some errors it refuses everything for ever: so each sending gets
a time, and a producer that hangs or is fenced is replaced.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateway.kafka.cluster import Cluster
from gateway.kafka.topics import AWAY, Unfit

log = structlog.get_logger()

CLOSE_S: Final = 1.0
"""How long a producer may take to end gently."""

BATCH_BYTES: Final = 256 << 10
OVERHEAD_BYTES: Final = 1024
"""What a record needs beside its key and value, generously."""


class Unsent(Exception):  # noqa: N818 - it names a situation
    """Some or none of it is with the broker; all of it may be sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One record."""

    topic: str
    key: bytes | None
    value: bytes


class Producer:
    """One process's, to one cluster."""

    def __init__(self, cluster: Cluster, *, name: str, within_s: float, measure: Callable[[], Awaitable[int]]) -> None:
        """Whatever is not acknowledged `within_s` is unsent; `measure` asks how large a record may be."""
        self._measure = measure
        self._cluster = cluster
        self._name = name
        self._within_s = within_s
        self._open: Any = None
        self._record_bytes = 1 << 20

    async def ready(self) -> int:
        """Connect, and return the largest record that is taken; raises `Unsent`."""
        try:
            async with asyncio.timeout(self._within_s):
                await self._opened()
        except (*AWAY, Unfit) as error:
            await self.close()
            raise Unsent(f"{type(error).__name__}: {error}") from error
        return self._record_bytes

    async def send(self, messages: Sequence[Message]) -> None:
        """Send in this order, and return when the broker has it all; raises `Unsent`."""
        futures: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._within_s):
                producer = await self._opened()
                for one in messages:
                    futures.append(await producer.send(one.topic, one.value, key=one.key))  # noqa: PERF401 - those before count if one fails
                if futures:
                    # Waited for and not gathered: a producer whose futures are cancelled under its hands trips over them.
                    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
                    for future in done:
                        future.result()
        except (*AWAY, AssertionError, Unfit) as error:
            for future in futures:
                future.add_done_callback(_heard)
            await self.close()
            raise Unsent(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """End the producer for good: nothing of it is sent after this."""
        producer, self._open = self._open, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await producer.stop()
        except (*AWAY, asyncio.CancelledError) as error:
            await self._cut(producer)
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise

    async def _opened(self) -> Any:
        if self._open is None:
            self._record_bytes = await self._measure() - OVERHEAD_BYTES
            producer = AIOKafkaProducer(
                client_id=self._name,
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                max_batch_size=BATCH_BYTES,
                max_request_size=self._record_bytes + OVERHEAD_BYTES,
                **self._cluster.options(),
            )
            self._open = producer
            await producer.start()
        return self._open

    @staticmethod
    async def _cut(producer: Any) -> None:
        """End one that does not end: first its wires, so that nothing more leaves, then the task that would knit new ones."""
        with contextlib.suppress(*AWAY):
            await producer.client.close()
        task = producer._sender.sender_task  # noqa: SLF001 - `stop` waits for it for ever
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_S)


def _heard(future: "asyncio.Future[Any]") -> None:
    """Take note of an error that nobody waits for any more."""
    if not future.cancelled() and isinstance(future.exception(), KafkaError):
        log.debug("kafka.unsent", error=str(future.exception()))
