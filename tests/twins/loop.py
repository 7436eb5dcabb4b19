"""An event loop whose time is virtual: it jumps to the next timer when nothing else is to do, and knows what belongs to which process.

Nothing sleeps, and nothing but the seed decides an order. A process is a context: everything that was started in it stops when it is
paused or killed, between two steps and nowhere else, as the kernel stops a real one.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")
RESOLUTION_S: Final = 1e-9


class Step:
    """One callback of a process, and the handle by which it may be taken back, also while it is held."""

    __slots__ = ("args", "callback", "context", "handle")

    def __init__(self, context: Context, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.context = context
        self.callback = callback
        self.args = args
        self.handle: asyncio.Handle | None = None

    def make(self) -> None:
        """Make it, unless it was taken back."""
        if self.handle is None or not self.handle.cancelled():
            self.callback(*self.args)


class Process:
    """What was started together and dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.ending = False
        """It is taken apart after the run: its steps are made again, so that they end, but no door lets them through."""
        self._held: list[Step] = []

    def __repr__(self) -> str:
        return f"<Process {self.name}{'' if self.alive else ', dead'}{', paused' if self.paused else ''}>"

    def step(self, step: Step) -> None:
        """Run one step; one that is stopped keeps it."""
        if self.ending or (self.alive and not self.paused):
            step.make()
        else:
            self._held.append(step)

    def go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the steps that were kept."""
        self.paused = False
        held, self._held = self._held, []
        for step in held:
            loop.call_soon(step.make, context=step.context)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _Jump:
    """Stands where a loop has its selector: instead of waiting, time goes on."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, wait_s: float | None) -> list[Any]:
        if wait_s is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self._loop.jump(wait_s)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop; `now_s` is its time."""

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._clock_resolution = RESOLUTION_S
        self._selector = _Jump(self)

    def jump(self, wait_s: float) -> None:
        """Let time go on to the next timer, or as far as is waited for; a timer that fires is never ahead of the time."""
        timers = self._scheduled
        first_s = timers[0].when() if timers else float("inf")
        self.now_s = max(self.now_s, min(first_s, self.now_s + wait_s + RESOLUTION_S))

    def time(self) -> float:
        """Return the virtual time."""
        return self.now_s

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As ever, but a step of a process asks it first."""
        around = context if context is not None else copy_context()  # an empty one is false
        process = around.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=around)
        step = Step(around, callback, args)
        step.handle = handle = super().call_soon(process.step, step, context=around)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As ever, but a timer of a process that is stopped waits until it goes on."""
        around = context if context is not None else copy_context()  # an empty one is false
        process = around.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=around)
        step = Step(around, callback, args)
        step.handle = handle = super().call_at(when, process.step, step, context=around)
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """Work beside the loop takes no time here."""
        del executor
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            done.set_exception(error)
        return done

    def outside(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        """Do something that belongs to no process of ours, and happens whatever becomes of who asked for it."""
        super().call_at(self.now_s + delay_s, callback, *args, context=Context())

    def _process_events(self, event_list: list[Any]) -> None:
        del event_list

    def _write_to_self(self) -> None:
        pass
