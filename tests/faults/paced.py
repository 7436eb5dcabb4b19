"""Pacing as the vendor counts it: a case is staged with real processes, and rows say what arrived. `python -m tests.faults.paced`."""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from redis import Redis

from gateway.embedded_redis import EmbeddedRedis
from tests.demo import ledger
from tests.faults.cases import TOKENS, Case, Pace, Stream, body, declared, three_latencies
from tests.faults.conftest import Workers, until_quiet
from tests.faults.rows import HEADS, Row, rows
from tests.vendor.client import ROOT, VendorProcess
from tests.vendor.record import Arrival, Counts
from tests.vendor.script import Behaviour, Kind

START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A case that has ended: what the vendor saw, and what the gateway says."""

    case: Case
    rows: tuple[Row, ...]
    arrivals: list[Arrival]
    counts: Counts
    sums: ledger.Sums
    results: list[dict[str, Any]]

    @property
    def over(self) -> int:
        return sum(row.over for row in self.rows)


class Scene:
    """A vendor, a Redis and workers while a case runs."""

    def __init__(self, case: Case, vendor: VendorProcess, books: "Redis", workers: Workers) -> None:
        self.case = case
        self.vendor = vendor
        self.books = books
        self.running: list[subprocess.Popen[bytes]] = []
        self.expected = 0
        """Calls that must have been received before the case can end."""
        self._workers = workers
        self._published = 0

    def start(self) -> None:
        """Start another worker."""
        self.running.append(self._workers.start())

    def start_dozing(self) -> "subprocess.Popen[bytes]":
        """Start a worker that will stop itself with claims in its hands, and return once it has."""
        command = [sys.executable, "-m", "tests.faults.dozing"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self._workers.environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        self._workers._running.append(process)
        give_up = time.monotonic() + START_S
        while os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0] == 0:
            if time.monotonic() > give_up:
                raise TimeoutError("the worker did not claim anything")
            time.sleep(0.005)
        return process

    def await_workers(self) -> None:
        """Wait until every worker has come up."""
        give_up = time.monotonic() + START_S
        while self.running and self._workers.log.count("worker.started") < len(self.running):
            if time.monotonic() > give_up:
                raise TimeoutError(f"the workers did not start:\n{self._workers.log}")
            time.sleep(0.02)

    def publish(self, streams: Iterable[Stream]) -> None:
        """Put all their calls on the bus, in turn, in one go."""
        bodies = list(self._bodies(list(streams)))
        with self.books.pipeline(transaction=False) as pipe:
            for body in bodies:
                pipe.xadd("tool-calls", {"data": body})
            pipe.execute()
        self.expected += len(bodies)

    @property
    def log(self) -> str:
        return self._workers.log

    def _bodies(self, streams: Sequence[Stream]) -> Iterator[bytes]:
        for round_ in range(max(stream.calls for stream in streams)):
            for stream in streams:
                if round_ < stream.calls:
                    self._published += 1
                    yield body(f"n{self._published:06}", stream)


@contextmanager
def staged(case: Case) -> Iterator[Scene]:
    """Start a vendor, a private Redis and the workers of a case, and end them all afterwards."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as place, asyncio.Runner() as runner, VendorProcess() as vendor:
        folder = Path(place)
        for stream in case.streams:
            slow = Behaviour(do=Kind.DELAY, latency=stream.latency, seed=case.seed, forever=True)
            vendor.script(stream.operation, slow)
        server = EmbeddedRedis(folder / "redis")
        runner.run(server.start())
        workers = Workers(server.url, folder, vendor.url)
        (folder / "connectors.d" / "crm.yaml").write_text(declared(case, vendor.url), encoding="utf-8")
        tokens = {f"TOKEN_{name.upper()}": token for name, token in TOKENS.items()}
        workers.environment.update(case.settings, **tokens)
        try:
            with Redis.from_url(server.url) as books:
                yield Scene(case, vendor, books, workers)
        finally:
            workers.stop()
            runner.run(server.stop())


def run_case(case: Case) -> Run:
    """Stage a case, publish its calls as fast as possible, wait until all have ended, and read the vendor's books."""
    with staged(case) as scene:
        for _ in range(case.workers):
            scene.start()
        scene.await_workers()
        scene.publish(case.streams)
        if case.during is not None:
            case.during(scene)
        sums = until_quiet(scene.books, scene.expected, timeout_s=case.patience_s)
        arrivals = scene.vendor.arrivals()
        return Run(
            case=case,
            rows=tuple(rows(case, arrivals)),
            arrivals=arrivals,
            counts=scene.vendor.counts(),
            sums=sums,
            results=ledger.results(scene.books),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nemesis:
    """Stops workers for a while, and kills others and starts new ones, at seeded moments for `seconds`.

    Half of the strikes are ambushes: they wait for the next arrival, since calls come in bunches and more are on their way.
    """

    seconds: float
    stops_s: tuple[float, float] = (0.2, 3.0)
    gaps_s: tuple[float, float] = (0.1, 0.8)
    kills: float = 0.4

    def __call__(self, scene: Scene) -> None:
        dice = Random(scene.case.seed)
        stopped: dict[subprocess.Popen[bytes], float] = {}
        ends = time.monotonic() + self.seconds
        while (now := time.monotonic()) < ends:
            for worker in [worker for worker, until in stopped.items() if until <= now]:
                worker.send_signal(signal.SIGCONT)
                del stopped[worker]
            if dice.random() < 0.5:
                _await_arrival(scene)
            self._strike(scene, dice, stopped)
            time.sleep(dice.uniform(*self.gaps_s))
        for worker in stopped:
            worker.send_signal(signal.SIGCONT)

    def _strike(self, scene: Scene, dice: Random, stopped: "dict[subprocess.Popen[bytes], float]") -> None:
        victim = dice.choice(scene.running)
        if dice.random() < self.kills:
            victim.kill()
            victim.wait()
            stopped.pop(victim, None)
            scene.running.remove(victim)
            scene.start()
        elif victim not in stopped:
            victim.send_signal(signal.SIGSTOP)
            stopped[victim] = time.monotonic() + dice.uniform(*self.stops_s)


def _await_arrival(scene: Scene) -> None:
    with suppress(TimeoutError):
        scene.vendor.until(timeout=0.5, arrivals=scene.vendor.counts(names=False).arrivals + 1)


LONG = (
    *(three_latencies(workers, Pace(most=20), 1_200, patience_s=120) for workers in (1, 4, 8)),
    *(three_latencies(workers, Pace(most=120, window_s=60), 720, patience_s=480) for workers in (1, 4, 8)),
    replace(
        three_latencies(4, Pace(most=20), 1_200, timeout="1s", patience_s=180, during=Nemesis(seconds=60)),
        name="stopped and killed",
    ),
)
"""What is published: minutes long."""

SHORTER = tuple(three_latencies(workers, Pace(most=20), 200) for workers in (1, 4, 8))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.paced", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="run each case so many times, with other dice")
    parser.add_argument("--long", action="store_true", help="the published cases, which take many minutes")
    arguments = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS), flush=True)
    for case in LONG if arguments.long else SHORTER:
        for seed in range(1, arguments.seeds + 1):
            for row in run_case(replace(case, seed=seed)).rows:
                print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
