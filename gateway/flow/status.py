"""Status: where a call is, why it waits, how it ended; waiting for its end; withdrawing it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from gateway.endings import ended
from gateway.flow import stored_calls
from gateway.flow.delivery import Delivery
from gateway.flow.holds import explain
from gateway.ports import Ambient, Ended, Live, StatusQueue
from schemas.effect import OperationClass
from schemas.outcome import Attempt
from schemas.result import CallStatus
from schemas.tool_call import ToolCall

_decode_attempts = msgspec.json.Decoder(list[Attempt]).decode
_decode_any = msgspec.json.decode

LOOK_EVERY_S = 1.0
"""Whoever waits also looks this often, in case a signal was lost; all that wait for one call share the look."""

MAX_WAITING = 2000
"""Callers of one process that may wait at the same time."""


class Crowded(Exception):  # noqa: N818 - it names a situation, not an error of ours
    """As many callers wait as may."""


class Finale(msgspec.Struct, frozen=True, kw_only=True):
    """A call that has ended: the `data` of its result event, its agent's source, and its attempts."""

    data: dict[str, Any]
    attempts: list[dict[str, Any]]


View = CallStatus | Finale | None
Seen = tuple[View, str | None]
"""A call's view and the agent it belongs to; (None, None) when nobody knows it."""

NOBODY: Seen = (None, None)


async def nothing(_: str) -> Seen:
    """Remember no call: for a gateway without a journal."""
    return NOBODY


class Status:
    """The use-case; one instance a process."""

    def __init__(
        self,
        queue: StatusQueue,
        delivery: Delivery,
        settled: Callable[[str, float], Awaitable[None]],
        ambient: Ambient,
        remembered: Callable[[str], Awaitable[Seen]] = nothing,
    ) -> None:
        """`settled(call, timeout_s)` returns when the call may have ended; `remembered` knows calls that the queue has forgotten."""
        self._remembered = remembered
        self._queue = queue
        self._delivery = delivery
        self._settled = settled
        self._ambient = ambient
        self._waiting = 0
        self._rounds: dict[str, asyncio.Task[Seen]] = {}
        self._hurried = asyncio.Event()

    async def look(self, call: str) -> Seen:
        """Return what can be said of the call now."""
        known = await self._queue.inspect(call)
        if known is None:
            return await self._remembered(call)
        if isinstance(known, Ended):
            data = _decode_any(known.event)["data"]
            return Finale(data=data, attempts=_decode_any(known.attempts)), _agent(data)
        record, _ = stored_calls.read(call, known, OperationClass.UNSAFE)
        return _live(record, known), record.agent

    async def wait(self, call: str, wait_s: float) -> Seen:
        """Like `look`, but returns only when the call has ended or `wait_s` seconds are over; raises `Crowded`."""
        if wait_s <= 0:
            return await self.look(call)
        until_s = self._ambient.monotonic() + wait_s
        if self._waiting >= MAX_WAITING:
            raise Crowded(f"{MAX_WAITING} requests wait for the end of a call, as many as may")
        self._waiting += 1
        try:
            self._round_of(
                call
            )  # before the first look: an end between that and the wait is signalled once, and to nobody
            seen = await self.look(call)
            while isinstance(seen[0], CallStatus) and (left_s := until_s - self._ambient.monotonic()) > 0:
                if self._hurried.is_set():
                    break
                seen = await self._next(call, left_s)
        finally:
            self._waiting -= 1
        return seen

    def hurry(self) -> None:
        """Let nobody wait any longer: this process ends, and another one can be asked."""
        self._hurried.set()

    @property
    def hurried(self) -> bool:
        """Whether this process is about to end."""
        return self._hurried.is_set()

    async def close(self) -> None:
        """End the looks that outlived those who waited: the queue that they ask is about to be closed."""
        await ended(self._rounds.values())

    async def _next(self, call: str, left_s: float) -> Seen:
        """Wait for what the call's round sees, or look when the time is over before, or nobody shall wait."""
        task, hurried = self._round_of(call), asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait({task, hurried}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
        return task.result() if task.done() else await self.look(call)

    def _round_of(self, call: str) -> asyncio.Task[Seen]:
        task = self._rounds.get(call)
        if task is None:
            task = self._rounds[call] = asyncio.create_task(self._round(call))
            task.add_done_callback(lambda over: self._over(call, over))
        return task

    async def _round(self, call: str) -> Seen:
        """Look once for everybody who waits for this call, when it may have ended; outlives whoever began it."""
        await self._settled(call, LOOK_EVERY_S)
        return await self.look(call)

    def _over(self, call: str, task: asyncio.Task[Seen]) -> None:
        del self._rounds[call]
        if not task.cancelled():
            task.exception()  # asked for here: all who waited may be gone, and asyncio complains of what nobody asks for

    async def cancel(self, call: str) -> Literal["cancelled", "busy", "gone"]:
        """Withdraw a call that has not started; how it ended is for `look` to say."""
        claim = await self._queue.seize(call)
        if claim == "busy" or claim == "gone":  # noqa: PLR1714 - mypy narrows this form
            return claim
        # Stale: our lease ended before we settled, and somebody else has it now.
        return "busy" if await self._delivery.cancel(claim) == "stale" else "cancelled"


def _live(call: ToolCall, live: Live) -> CallStatus:
    return CallStatus(
        call=call.id, state=live.run.state, hold=explain(live), attempts=_decode_attempts(live.run.history.encode())
    )


def _agent(data: dict[str, Any]) -> str:
    source: str = data["request"]["source"]
    return source.removeprefix("agent/")
