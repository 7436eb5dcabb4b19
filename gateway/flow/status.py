"""Status: where a call is, why it waits, how it ended; waiting for its end; withdrawing it."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from gateway.flow import reports
from gateway.flow.delivery import Delivery
from gateway.ports import Ambient, Ended, Live, StatusQueue
from schemas.lifecycle import CallState, HoldReason
from schemas.outcome import Attempt
from schemas.result import CallStatus, Hold
from schemas.tool_call import ToolCall

_decode_call = msgspec.json.Decoder(ToolCall).decode
_decode_attempts = msgspec.json.Decoder(list[Attempt]).decode
_decode_any = msgspec.json.decode

LOOK_EVERY_S = 1.0
"""A waiting caller also looks this often, in case a signal was lost."""


class Finale(msgspec.Struct, frozen=True, kw_only=True):
    """A call that has ended: the `data` of its result event, its agent's source, and its attempts."""

    data: dict[str, Any]
    attempts: list[dict[str, Any]]


View = CallStatus | Finale | None


class Status:
    """The use-case; one instance a process."""

    def __init__(
        self, queue: StatusQueue, delivery: Delivery, settled: Callable[[str, float], Awaitable[None]], ambient: Ambient
    ) -> None:
        """`settled(call, timeout_s)` returns when the call may have ended."""
        self._queue = queue
        self._delivery = delivery
        self._settled = settled
        self._ambient = ambient

    async def look(self, call: str) -> tuple[View, str | None]:
        """Return the call's view and the agent it belongs to; (None, None) when nobody knows it."""
        known = await self._queue.inspect(call)
        if known is None:
            return None, None
        if isinstance(known, Ended):
            data = _decode_any(known.event)["data"]
            return Finale(data=data, attempts=_decode_any(known.attempts)), _agent(data)
        record = _decode_call(known.body)
        return _live(record, known), record.agent

    async def wait(self, call: str, wait_s: float) -> tuple[View, str | None]:
        """Like `look`, but returns only when the call has ended or `wait_s` seconds are over."""
        until_s = self._ambient.monotonic() + wait_s
        view, agent = await self.look(call)
        while isinstance(view, CallStatus) and (left_s := until_s - self._ambient.monotonic()) > 0:
            await self._settled(call, min(left_s, LOOK_EVERY_S))
            view, agent = await self.look(call)
        return view, agent

    async def cancel(self, call: str) -> Literal["cancelled", "busy", "gone"]:
        """Withdraw a call that has not started."""
        claim = await self._queue.seize(call)
        if claim == "busy" or claim == "gone":  # noqa: PLR1714 - mypy narrows this form
            return claim
        await self._delivery.cancel(claim)
        return "cancelled"


def _live(call: ToolCall, live: Live) -> CallStatus:
    return CallStatus(
        call=call.id, state=live.run.state, hold=_hold(live), attempts=_decode_attempts(live.run.history.encode())
    )


def _hold(live: Live) -> Hold:
    if live.run.state is CallState.PROCESSING:
        return Hold(reason=None, detail="A worker has it now.", position=None, eta_s=None, action="Wait for it to end.")
    if live.due_us is not None and live.due_us > live.now_us:
        wait_s = (live.due_us - live.now_us) / 1_000_000
        detail = f"The last attempt failed; the next starts after {reports.stamp(reports.moment(live.due_us))}."
        return Hold(
            reason=HoldReason.BACKOFF, detail=detail, position=None, eta_s=round(wait_s, 3), action="Nothing to do."
        )
    detail = f"It waits in lane {live.run.lane}."
    return Hold(reason=None, detail=detail, position=live.position, eta_s=None, action="Nothing to do.")


def _agent(data: dict[str, Any]) -> str:
    source: str = data["request"]["source"]
    return source.removeprefix("agent/")
