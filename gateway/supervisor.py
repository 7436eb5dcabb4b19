"""Keeps processes alive: starts each, starts again what dies, passes a stop on, and ends within its time.

Knows nothing of what they do. A child never outlives its supervisor: the kernel tells it when we are gone.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from gateway.lifeline import bind_to

log = structlog.get_logger()

BACK_OFF_S = (0.2, 5.0)
"""First and longest pause before a dead process is started again."""

STEADY_AFTER_S = 30.0
"""A process that lived this long has earned the first pause again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process to keep alive."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


class Supervisor:
    """Keeps a set of programs alive until it is stopped."""

    def __init__(
        self, programs: Sequence[Program], *, stop_within_s: float, changed: Callable[[dict[str, int]], None]
    ) -> None:
        """`stop_within_s` is how long a stop may take before the rest is killed; `changed` is told the process ids."""
        self._changed = changed
        self._programs = programs
        self._stop_within_s = stop_within_s
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start every program and begin to watch it."""
        for program in self._programs:
            await self._launch(program)
            self._keepers.append(asyncio.create_task(self._keep(program)))

    async def stop(self) -> bool:
        """Ask every process to end, then make it; true when all ended by themselves."""
        self._stopping = True
        for process in self._alive():
            process.terminate()
        waiting = [asyncio.create_task(process.wait()) for process in self._alive()]
        late = set[asyncio.Task[int]]()
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=self._stop_within_s)
        for process in self._alive():
            process.kill()
            await process.wait()
        for keeper in self._keepers:
            keeper.cancel()
        return not late

    def _alive(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._running.values() if process.returncode is None]

    async def _launch(self, program: Program) -> None:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env=dict(program.environment),
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=bind_to(os.getpid()),
        )
        self._running[program.name] = process
        self._changed({name: running.pid for name, running in self._running.items()})

    async def _keep(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        pause_s = BACK_OFF_S[0]
        while not self._stopping:
            born = loop.time()
            code = await self._running[program.name].wait()
            if self._stopping:
                return
            if loop.time() - born > STEADY_AFTER_S:
                pause_s = BACK_OFF_S[0]
            log.error("process.died", process=program.name, exit=code, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, BACK_OFF_S[1])
            if not self._stopping:
                await self._launch(program)
