"""`./dev soak --hours H`: a constant load on real workers and a random fault every 20 s, for hours; what is held must stay flat.

The time is cut into stretches of a minute. After each the load rests until all is quiet; then every invariant is held against what
this stretch left behind and against the vendor's books, what is held is measured, and the load goes on with the same processes.
"""

import argparse
import datetime as dt
import http.client
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from random import Random

import msgspec

from bench.ground import machine
from bench.report import write
from tests.faults.matrix import recorder
from tests.faults.matrix.checker import check
from tests.faults.matrix.curves import CURVES, GROWING, Sample, judged, rising, shown
from tests.faults.matrix.desk import Desk, keys, people
from tests.faults.matrix.load import AGENTS, ALL, CREDENTIAL, SESSIONS, call
from tests.faults.matrix.nemesis import Nemesis
from tests.faults.matrix.recording import Limit, Violation
from tests.faults.matrix.report import DOCUMENT
from tests.faults.matrix.schedule import Fault
from tests.faults.matrix.stage import AUDIT, Setting, Stage, patience
from tests.vendor.client import VendorProcess

EVERY_S = 20.0
AGENTS_AT_ONCE = 4
LONGEST_S, SHORTEST_S = 60.0, 20.0
BOUND_S = 40.0
TWICE = 0.01
"""The share of events that are published a second time."""

KEPT_S = 120
MOST_TOLD = 20
HEALINGS = 5
TOPICS = ("tool-results", "tool-events", "dead-letters", "gateway-alerts")
DAY_S = 86_400
SETTING = Setting(
    workers=3,
    journal=True,
    limits=(Limit(most=1_000),),
    # A machine that is busy with more than this must not look like a vendor that is down.
    defaults={"timeout": "5s", "breaker": {"open": "2s"}},
    documents=people(),
    environment={
        **keys(),
        "SLUICE_CONCURRENCY": "64",
        "SLUICE_INTAKE_BATCH": "64",
        # What is kept for a day or a month is kept for minutes, so that its end is seen within the run.
        "SLUICE_KEEP_EVENTS": str(KEPT_S),
        "SLUICE_SCOPE_TTL": str(KEPT_S),
        "SLUICE_ANSWER_TTL": "30",
        "SLUICE_KEEP_LETTERS": str(KEPT_S),
        "SLUICE_JOURNAL_KEEP_DONE": str(2 * KEPT_S / DAY_S),
        "SLUICE_JOURNAL_KEEP_FAILED": str(2 * KEPT_S / DAY_S),
        "SLUICE_JOURNAL_KEEP_LETTERS": str(2 * KEPT_S / DAY_S),
    },
)

KINDS: tuple[Fault, ...] = (
    Fault(at_s=0, kind="kill_worker", seconds=0.5),
    Fault(at_s=0, kind="stop_worker", seconds=4.0),
    Fault(at_s=0, kind="redis_kill", seconds=0.5),
    Fault(at_s=0, kind="redis_stop", seconds=3.0),
    Fault(at_s=0, kind="vendor_stop", seconds=3.0),
    Fault(at_s=0, kind="redis.latency", seconds=4.0, delay_s=0.02, jitter_s=0.02),
    Fault(at_s=0, kind="redis.reset_peer"),
    Fault(at_s=0, kind="redis.drop_reply", seconds=2.0, amount=3),
    Fault(at_s=0, kind="vendor.latency", seconds=4.0, delay_s=0.3, jitter_s=0.3),
    Fault(at_s=0, kind="vendor.reset_peer"),
    Fault(at_s=0, kind="vendor.down", seconds=2.0),
    Fault(at_s=0, kind="vendor.slicer", seconds=3.0, amount=1),
    Fault(at_s=0, kind="vendor.limit_data", seconds=2.0, amount=600, share=0.2),
    Fault(at_s=0, kind="vendor.drop_reply", seconds=2.0, amount=5),
)


class Sparing(Nemesis):
    """Kills any worker but the first, whose memory shall be seen for the whole time."""

    @property
    def mortals(self) -> list["subprocess.Popen[bytes]"]:
        return self.stage.alive[1:]


class Soak:
    """One run."""

    def __init__(self, stage: Stage, rate: float) -> None:
        self.stage, self.rate = stage, rate
        self.nemesis = Sparing(stage)
        self.desk = Desk(stage)
        self.samples: list[Sample] = []
        self.violations: list[Violation] = []
        self.calls = 0
        self._number = count()
        self._dice = Random(stage.dice.random())
        self._next_fault = self._began = 0.0

    def run(self, seconds: float) -> None:
        """Go on for so long, and print how it goes."""
        stretch = max(SHORTEST_S, min(LONGEST_S, seconds / 8))
        self.stage.start_team()
        for topic in TOPICS:
            # What a group has not read is not trimmed, however long it takes until all is quiet.
            self.stage.books.xgroup_create(topic, AUDIT, id="0", mkstream=True)
        self._began = time.monotonic()
        self._next_fault = self._began + EVERY_S / 2
        while (left := self._began + seconds - time.monotonic()) > 0:
            self._stretch(min(stretch, left))
            self._audit(searched=left <= stretch)
            print(self.told(self.samples[-1]), flush=True)
        self.violations += rising(self.samples)

    # The load and the faults

    def _stretch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        agents = [threading.Thread(target=self._agent, args=(turn, end)) for turn in range(AGENTS_AT_ONCE)]
        for agent in agents:
            agent.start()
        while self._next_fault < end:
            time.sleep(max(0.0, self._next_fault - time.monotonic()))
            kind = self._dice.choice(KINDS)
            heal = self.nemesis.strike(kind)
            print(f"    {time.monotonic() - self._began:.0f} s: {kind.kind}", flush=True)
            time.sleep(kind.seconds)
            self._mend(heal)
            self._next_fault = max(self._next_fault + EVERY_S, time.monotonic())
        for agent in agents:
            agent.join()
        self.stage.healed()

    def _mend(self, heal: Callable[[], None]) -> None:
        """Heal what was struck; a Redis that found its port taken for a moment, by somebody's end of a connection, starts again."""
        for _ in range(HEALINGS):
            try:
                return heal()
            except AssertionError:
                self.stage.redis.kill()
        return heal()

    def _agent(self, turn: int, end: float) -> None:
        """Publish one share of the load; after a fault, what was missed at once."""
        dice, pause = Random(f"{self.stage.dice.random()}"), AGENTS_AT_ONCE / self.rate
        moment = time.monotonic() + turn * pause / AGENTS_AT_ONCE
        while moment < end:
            time.sleep(max(0.0, moment - time.monotonic()))
            number = next(self._number)
            one = call(number, ALL[number % len(ALL)], agent=dice.choice(AGENTS), session=dice.choice(SESSIONS))
            self.stage.publish(one)
            if dice.random() < TWICE:
                self.stage.publish_raw(one.raw)
            moment += pause

    # What it left behind

    def _audit(self, *, searched: bool) -> None:
        stage = self.stage
        seen = recorder.record(stage, bound_s=BOUND_S * patience(), searched=searched)
        found = check(seen, recorder.oracle(stage))
        if seen.quiet_s is None:
            found.insert(0, Violation("T", "what has not ended", self._left()))
        for one in found[:MOST_TOLD]:
            print(f"    {one}", flush=True)
        self.violations += found
        self.calls += len(stage.calls)
        self._clear_the_desk()
        self.samples.append(self._sample())
        self._turn_the_page()

    def _left(self) -> str:
        """Say where some of those stand that have not ended."""
        books = self.stage.books
        runs = [msgspec.msgpack.decode(run) for run in books.hvals("{s0}:runs")]
        states = Counter(run.get("state") for run in runs)
        lanes = self.desk.ask("GET", "/v1/lanes?held=true").body["lanes"]
        held = {f"{one['hold']['reason']} {one['hold']['detail']}" for one in lanes}
        sizes = {name: books.zcard(f"{{s0}}:{name}") for name in ("leases", "delayed", "ready", "moves")}
        struck = [f"{kind} at {at_s:.0f} s" for at_s, kind in self.nemesis.struck[-3:]]
        return f"{held}; {len(self.stage.alive)} workers; {dict(states)}; {sizes}; {struck}"

    def _clear_the_desk(self) -> None:
        """Do what an operator does with letters: an open one is kept for good."""
        while letters := self._open_letters():
            for one in letters:
                self.desk.ask("POST", f"/v1/dead-letters/{one['letter']}/discard", {"reason": "seen"})

    def _open_letters(self) -> list[dict[str, str]]:
        """List some; an API that was asked to come back later is asked later."""
        question = ("GET", "/v1/dead-letters?status=open&limit=200")
        answer = self.desk.ask(*question)
        for _ in range(HEALINGS):
            if answer.status == http.client.OK:
                break
            print(f"    the API answers {answer.status}: {answer.body}", flush=True)
            time.sleep(1.0)
            answer = self.desk.ask(*question)
        return list(answer["letters"])

    def _turn_the_page(self) -> None:
        stage = self.stage
        stage.calls.clear()
        stage.demands.clear()
        for topic in TOPICS:
            for identity, _ in stage.books.xrevrange(topic, count=1):
                stage.since[topic] = f"({identity.decode()}"
                stage.books.xgroup_setid(topic, AUDIT, identity)
        stage.vendor.reset()
        stage.vendor.auth("api_key", CREDENTIAL)

    def _sample(self) -> Sample:
        stage = self.stage
        assert stage.journal is not None
        return Sample(
            at_s=time.monotonic() - self._began,
            calls=self.calls,
            faults=self.faults.total(),
            violations=len(self.violations),
            worker=stage.measure(stage.team[0]),
            api=stage.measure(self.desk.process),
            journal=stage.measure(stage.journal),
            keys=int(stage.books.dbsize()),
            redis_bytes=int(stage.books.info("memory")["used_memory"]),
            entries=sum(stage.books.xlen(topic) for topic in ("tool-calls", "tool-results", "tool-events")),
            journal_rows=int(stage.journal_rows("SELECT count(*) FROM calls")[0][0]),
            journal_bytes=sum(path.stat().st_size for path in (stage.workers.folder / "data").glob("journal.db*")),
        )

    @property
    def faults(self) -> Counter[str]:
        """What was struck, by kind; a toxic counts once, however much it did."""
        return Counter(kind for _, kind in self.nemesis.struck)

    def told(self, one: Sample) -> str:
        """Write one line about a moment."""
        curves = "  ".join(f"{curve.name} {shown(curve, curve.of(one))}" for curve in (*CURVES, *GROWING))
        return (
            f"{one.at_s / 60:6.1f} min  {one.calls:,} calls  {one.faults} faults  {one.violations} violations  {curves}"
        )

    def block(self, facts: Mapping[str, str]) -> str:
        """Write what stands in the report."""
        last, (early, _) = self.samples[-1], judged(self.samples)
        kinds = ", ".join(f"{kind} {times}" for kind, times in sorted(self.faults.items()))
        told = {
            **facts,
            "hours": f"{last.at_s / 3600:.2f}",
            "load": f"{self.rate:g} events a second on {SETTING.workers} workers",
            "operations": f"{last.calls:,}",
            "faults": f"{last.faults:,}: {kinds}",
            "violations": f"{len(self.violations)}",
        }
        rows = ["| | at the first look | early, after the warm-up | at the end | |", "| --- | --- | --- | --- | --- |"]
        for curve in (*CURVES, *GROWING):
            cells = (
                shown(curve, curve.of(self.samples[0])),
                shown(curve, max(map(curve.of, early))) if early else "",
                shown(curve, curve.of(last)),
                "must be flat" if curve in CURVES else "may grow until its retention",
            )
            rows.append(f"| {curve.name} | {' | '.join(cells)} |")
        found = [f"- {one}" for one in self.violations[:MOST_TOLD]]
        return "\n".join(
            [*(f"- {name}: {fact}" for name, fact in told.items()), "", *rows, *([""] if found else []), *found]
        )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-report", action="store_true", help="leave docs/reliability.md as it is")
    asked = parser.parse_args(arguments)
    # Also a run that is ended early takes its processes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder, VendorProcess() as vendor:
        stage = Stage(SETTING, Path(folder), vendor, Random(asked.seed))
        try:
            soak = Soak(stage, asked.rate)
            soak.run(asked.hours * 3600)
        finally:
            stage.close()
    if not asked.no_report:
        facts = {**machine(dt.datetime.now(dt.UTC).date().isoformat()), "seed": str(asked.seed)}
        write(DOCUMENT, "soak", soak.block(facts))
    if not judged(soak.samples)[0]:
        print("It was too short to tell whether anything rises.")
    print(f"{soak.calls:,} calls, {soak.faults.total()} faults, {len(soak.violations)} violations.")
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
