"""`./dev bench journal`: a journal of a million calls in SQLite, and how long the questions of operators take it.

The rows are written by the journal's own writer from events that the code's own renderers made; the questions are those of
`GET /v1/calls`, through the same queries. A gate holds for the median of warm runs; the first run of each is told beside it.
"""

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.ground import ROOT, machine
from bench.report import Line, markdown, plain, write
from gateway.journal import schema
from gateway.journal.calls import CallFilter, Calls
from gateway.journal.database import Database
from gateway.journal.rows import Told, read
from gateway.journal.store import Store
from schemas.failure import Failure
from tests.journal_examples import START_US, Story, call_id, told

CALLS = 1_000_000
GATE_MS = 200
RUNS = 9
BATCH = 500
"""Calls of one transaction: what is waiting when the journal catches up."""

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def story(number: int) -> Story:
    """Return one of a varied lot: 20 tools, 10 agents, sessions of 50 calls, 1 % failures, some without a confidence."""
    failed = number % 100 == 0
    return Story(
        number=number,
        tool=f"crm.things.op{number % 20}",
        agent=f"agent-{number % 10}",
        session=f"run-{number // 50}",
        confidence=None if number % 11 == 0 else number * 7919 % 100_003 / 100_003,
        failure=Failure.SEND_RESET if failed else None,
        message=f"The vendor closed connection {number}." if failed else "",
        letter=f"L{number}" if failed else None,
    )


def questions(calls: int) -> list[tuple[str, CallFilter]]:
    """Return what is asked, each at its worst: rare, frequent, and without any answer."""
    middle, day = START_US + calls * 1000, calls // 2
    return [
        ("the newest", CallFilter()),
        ("an agent", CallFilter(agent="agent-3")),
        ("a session", CallFilter(session=f"run-{day // 50}")),
        ("a tool", CallFilter(tool="crm.things.op7")),
        ("a connector", CallFilter(connector="crm")),
        ("state failed", CallFilter(state="failed")),
        ("an error class", CallFilter(error_class="send.reset")),
        ("a fingerprint", CallFilter(fingerprint=f"v1:{3:016x}")),
        ("a trace id", CallFilter(trace_id=f"{day + 1:032x}")),
        ("a time in the middle", CallFilter(since_us=middle, until_us=middle + 60_000_000)),
        ("a time, state and tool", CallFilter(since_us=middle, state="completed", tool="crm.things.op7")),
        ("confidence below 0.001", CallFilter(confidence_below=0.001)),
        ("confidence below 0.5", CallFilter(confidence_below=0.5)),
        ("confidence 0.4-0.5, failed", CallFilter(confidence_from=0.4, confidence_below=0.5, state="failed")),
        ("a rare word", CallFilter(text=f"connection {day - day % 100}")),
        ("a word of 1 %", CallFilter(text="closed")),
        ("two words of all", CallFilter(text="first attempt")),
        ("a word of none", CallFilter(text="nowhere")),
        ("a word, agent, state", CallFilter(text="closed", agent="agent-0", state="failed")),
        ("agent, tool: nothing common", CallFilter(agent="agent-3", tool="crm.things.op4")),
        ("agent, word: nothing common", CallFilter(agent="agent-3", text="closed")),
        ("agent, tool, words: nothing", CallFilter(agent="agent-3", tool="crm.things.op4", text="first attempt")),
    ]


def entries(number: int) -> Iterator[Told]:
    """Yield what the topics tell of one call, as the writer reads it."""
    for raw in told(story(number)).entries():
        yield read(raw, most_bytes=65_536)


async def fill(database: Database, calls: int) -> tuple[float, float]:
    """Write so many calls; returns calls a second of the writer alone, and seconds of everything."""
    store, writing_s, began_s = Store(database), 0.0, time.perf_counter()
    for first in range(0, calls, BATCH):
        batch = [one for number in range(first, min(first + BATCH, calls)) for one in entries(number)]
        before_s = time.perf_counter()
        await store.write(batch)
        writing_s += time.perf_counter() - before_s
        if first % 50_000 == 0:
            sys.stderr.write(f"\r{first:,} of {calls:,} calls")
            sys.stderr.flush()
    sys.stderr.write("\r" + " " * 40 + "\r")
    return calls / writing_s, time.perf_counter() - began_s


async def measure(database: Database, calls: int, runs: int) -> list[Line]:
    """Ask everything, and give one line each."""
    index, lines = Calls(database), []
    for name, wanted in questions(calls):
        took = []
        for _ in range(runs + 1):
            before_s = time.perf_counter()
            await index.page(wanted)
            took.append((time.perf_counter() - before_s) * 1000)
        median, worst = statistics.median(took[1:]), max(took[1:])
        lines.append(
            Line(
                measure=name,
                clock=f"{median:.1f} ms",
                server=f"{worst:.1f} ms",
                ratio=f"{took[0]:.1f} ms",
                gate=f"< {GATE_MS} ms",
                kept=median < GATE_MS,
            )
        )
    return lines


def _size(path: Path) -> int:
    return path.stat().st_size


async def run(path: Path, calls: int, runs: int) -> tuple[list[Line], dict[str, str]]:
    """Fill and ask."""
    writing = Database(f"sqlite:///{path}", writes=True)
    await schema.migrate(writing)
    rate, took_s = await fill(writing, calls)
    await writing.close()
    reading = Database(f"sqlite:///{path}", writes=False)
    lines = await measure(reading, calls, runs)
    page = await Calls(reading).page(CallFilter(), most=1)
    if page.rows[0]["call"] != call_id(calls - 1):
        raise RuntimeError("not every call was written")
    await reading.close()
    size = _size(path)
    facts = {
        "calls": f"{calls:,}, with {3 * calls:,} events; {size / calls:,.0f} bytes a call, {size / 1e9:.1f} GB",
        "writing": f"{rate:,.0f} calls a second in transactions of {BATCH}; {took_s:,.0f} s with the rendering of the events",
        "columns": f"*by the clock* is the median of {runs} runs, *server time* the slowest of them, *ratio* the very first",
    }
    return lines, facts


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every gate was kept."""
    parser = argparse.ArgumentParser(prog="./dev bench journal", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 calls, and the document stays as it is")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="what the table is dated")
    given = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        calls, runs = (20_000, 3) if given.quick else (CALLS, RUNS)
        lines, facts = asyncio.run(run(Path(folder) / "journal.db", calls, runs))
    facts = {**machine(given.date), "sqlite": sqlite3.sqlite_version, **facts}
    sys.stdout.write(plain(lines, facts) + "\n")
    if not given.quick:
        write(DOCUMENT, "journal", markdown(lines, facts))
    return 0 if all(line.kept for line in lines) else 1
