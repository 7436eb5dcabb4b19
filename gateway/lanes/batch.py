"""Batches that form behind the previous flight: no timer, no added wait, one round trip for all that came meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Generic[T]):
    """What one flight may carry."""

    items: int
    size_bytes: int
    weigh: Callable[[T], int]
    """Returns about how many bytes an item takes."""

    def fitting(self, items: Iterable[T]) -> int:
        """Return how many of the first items fit; one that is too large alone flies alone."""
        count, total = 0, 0
        for item in items:
            total += self.weigh(item)
            if count and (count == self.items or total > self.size_bytes):
                break
            count += 1
        return count


class Batcher(Generic[T, R]):
    """Collects items while a flight is under way and sends them together; each caller gets its own answer."""

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[Sequence[R]]], load: "Load[T]") -> None:
        """`send` answers in the order of its items; `load` bounds one flight."""
        self._send = send
        self._load = load
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flight: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Send one item with the next flight and return its answer.

        A caller that is cancelled does not take its item back: it may be on its way already.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        return await future

    async def _fly(self) -> None:
        try:
            while self._waiting:
                count = self._load.fitting(item for item, _ in self._waiting)
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                await self._deliver(batch)
        finally:
            self._flight = None

    async def _deliver(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait for this flight
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
