"""`./dev bench lanes`: what a call costs in the queue, and how that grows with lanes, waiting calls and limits."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis

from bench import report
from bench.ground import ROOT, facts, server
from bench.memory import weigh
from bench.queue import BATCH, Queue, Shape
from bench.report import Line
from bench.rounds import Series, clocked, cycles, repeated
from gateway.ports import Claim, Need

DOCUMENT = ROOT / "docs" / "benchmarks.md"
LANES_GATE, DEPTH_GATE, PARKED_GATE = 2.5, 2.0, 1.5
CLAIM_GATE_MS = 10.0
MEMORY_GATE_BYTES = 2048
PACED = 100
"""Calls a second of the limit under which lanes are parked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    each: int
    """Cycles of one queue in one round."""
    lanes: tuple[int, ...]
    depths: tuple[int, int]
    depth_each: int
    parked: tuple[int, int]
    looks: int
    weighed: int


FULL = Sizes(
    rounds=7,
    each=8,
    lanes=(1, 100, 10_000),
    depths=(1_000, 1_000_000),
    depth_each=100,
    parked=(10, 10_000),
    looks=100,
    weighed=30_000,
)
QUICK = Sizes(
    rounds=1,
    each=2,
    lanes=(1, 10, 100),
    depths=(256, 4_000),
    depth_each=4,
    parked=(10, 200),
    looks=10,
    weighed=512,
)


def main(arguments: Sequence[str]) -> int:
    """Run, print the table, write the document; returns 1 when a gate was missed."""
    parser = argparse.ArgumentParser(prog="./dev bench lanes", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, no document: it shows that the benchmark runs"
    )
    parser.add_argument(
        "--date", default=time.strftime("%Y-%m-%d"), help="the date that is written, today's if not given"
    )
    chosen = parser.parse_args(arguments)
    lines, machine = asyncio.run(run(QUICK if chosen.quick else FULL, chosen.date))
    sys.stdout.write(report.plain(lines, machine) + "\n")
    if chosen.quick:
        return 0
    report.write(DOCUMENT, "lanes", report.markdown(lines, machine))
    return 1 if any(line.kept is False for line in lines) else 0


async def run(sizes: Sizes, date: str) -> tuple[list[Line], dict[str, str]]:
    """Measure everything on one server; each part begins with an empty one."""
    lines: list[Line] = []
    async with server() as redis:
        for part in (_memory, _lanes, _limits, _parked, _depth):
            await redis.flushall()
            began = time.monotonic()
            lines += await part(redis, sizes)
            sys.stderr.write(f"{part.__name__[1:]}: {time.monotonic() - began:.0f} s\n")
        return lines, await facts(redis, date)


async def _memory(redis: "Redis", sizes: Sizes) -> list[Line]:
    weight = await weigh(redis, sizes.weighed)
    kept = weight.queue <= MEMORY_GATE_BYTES
    return [
        Line(measure="Redis per queued 1 KB call", clock=f"{weight.queue:,.0f} bytes", gate="<= 2,048", kept=kept),
        Line(measure="  its event on tool-events", clock=f"{weight.accepted:,.0f} bytes"),
    ]


async def _lanes(redis: "Redis", sizes: Sizes) -> list[Line]:
    shapes = [Shape(name=f"{lanes:,} lanes", lanes=lanes, connectors=100) for lanes in sizes.lanes]
    found = await _cycled(redis, shapes, rounds=sizes.rounds, each=sizes.each)
    base = found[shapes[0].name]
    lines = [_line(f"cycle, {shape.name}", found[shape.name], base) for shape in shapes]
    return [*lines[:-1], _gated(lines[-1], found[shapes[-1].name], base, LANES_GATE)]


async def _depth(redis: "Redis", sizes: Sizes) -> list[Line]:
    shapes = [Shape(name=f"{queued:,} queued", queued=queued) for queued in sizes.depths]
    # Each on a server of its own: a million calls would slow down what is kept beside them, and so hide their cost.
    async with server() as other:
        queues = [Queue(own, shape) for own, shape in zip((other, redis), shapes, strict=True)]
        found = await cycles(queues, rounds=sizes.rounds, each=sizes.depth_each)
    shallow, deep = (found[shape.name] for shape in shapes)
    first, last = (_line(f"cycle, {shape.name}", found[shape.name], shallow) for shape in shapes)
    p50, p99 = deep.claim_ms(0.5), deep.claim_ms(0.99)
    claims = f"claim, {shapes[1].name}"
    return [
        first,
        _gated(last, deep, shallow, DEPTH_GATE),
        Line(measure=f"{claims}, p50", clock=f"{p50:.2f} ms"),
        Line(measure=f"{claims}, p99", clock=f"{p99:.2f} ms", gate="< 10 ms", kept=p99 < CLAIM_GATE_MS),
    ]


def need(
    name: str = "core", *, per: str = "connector", kind: str = "strict", most: int = 10_000, window_us: int = 50_000
) -> Need:
    """Return a limit that does not bind unless it is told to."""
    return Need(name=name, per=per, kind=kind, most=most, window_us=window_us, cost=1, weighted=False)


def _limited() -> list[Shape]:
    three = (need(), need("each", per="connection"), need("tool", per="operation"))
    weighted = Need(name="core", per="connector", kind="strict", most=10_000, window_us=50_000, cost=1, weighted=True)
    return [
        Shape(name="no limit", connectors=1),
        Shape(name="one strict", connectors=1, needs=(need(),)),
        Shape(name="three strict", connectors=1, needs=three),
        Shape(name="soft", connectors=1, needs=(need(kind="soft"),)),
        Shape(name="weighted", connectors=1, needs=(weighted,), costs={"core": 5}),
        Shape(name="100,000 a window", connectors=1, needs=(need(most=100_000, window_us=1_000_000),)),
    ]


async def _limits(redis: "Redis", sizes: Sizes) -> list[Line]:
    shapes = _limited()
    found = await _cycled(redis, shapes, rounds=sizes.rounds, each=sizes.each)
    base = found[shapes[0].name]
    return [_line(f"cycle, {shape.name}", found[shape.name], base) for shape in shapes]


async def _parked(redis: "Redis", sizes: Sizes) -> list[Line]:
    """Lanes wait for one limit all of whose slots are held; giving one back lets one call go."""
    crowds = {waiting: await _crowd(redis, waiting) for waiting in sizes.parked}
    none, one = ({waiting: Series() for waiting in crowds} for _ in range(2))
    for _ in range(sizes.rounds):
        for waiting, (queue, held) in crowds.items():
            await repeated(redis, _grants_none(queue), none[waiting], times=sizes.looks)
            await repeated(redis, _grants_one(queue, held), one[waiting], times=sizes.looks)
    few, many = sizes.parked
    lines = []
    for measure, series in (("claim of none", none), ("claim of one", one)):
        lines.append(_line(f"{measure}, {few:,} parked", series[few], series[few]))
        last = _line(f"{measure}, {many:,} parked", series[many], series[few])
        lines.append(_gated(last, series[many], series[few], PARKED_GATE))
    return lines


async def _crowd(redis: "Redis", waiting: int) -> tuple[Queue, list[Claim]]:
    """Return a queue all of whose lanes are parked, and the claims that hold every slot of their limit."""
    limit = need(most=PACED, window_us=1_000_000)
    queued = max(20_000, 2 * waiting)
    queue = Queue(redis, Shape(name=f"{waiting} parked", lanes=waiting, connectors=1, queued=queued, needs=(limit,)))
    await queue.fill()
    held: list[Claim] = []
    # One claim looks at so many lanes at most: it takes several until all of them are parked.
    for _ in range(waiting // BATCH + 3):
        held += await queue.claim(PACED)
    if len(held) != PACED:
        raise RuntimeError(f"{len(held)} calls were let go by a limit of {PACED}")
    return queue, held


def _grants_none(queue: Queue) -> Callable[[], Awaitable[float]]:
    async def look() -> float:
        return await clocked(queue.claim(PACED))

    return look


def _grants_one(queue: Queue, held: list[Claim]) -> Callable[[], Awaitable[float]]:
    """Give one slot back and clock only the claim that follows; the server's time is that of both."""

    async def look() -> float:
        await queue.settle([held.pop()], "unused")
        began = time.perf_counter()
        claims = await queue.claim(PACED)
        took = time.perf_counter() - began
        if len(claims) != 1:
            raise RuntimeError(f"{len(claims)} calls were let go for one slot")
        held.extend(claims)
        return took

    return look


async def _cycled(redis: "Redis", shapes: Sequence[Shape], *, rounds: int, each: int) -> dict[str, Series]:
    return await cycles([Queue(redis, shape) for shape in shapes], rounds=rounds, each=each)


def _line(measure: str, series: Series, base: Series) -> Line:
    wall, cpu = series.against(base)
    ratio = "" if series is base else f"{wall:.2f} / {cpu:.2f}"
    return Line(measure=measure, clock=f"{series.wall:,.1f} us", server=f"{series.server:,.1f} us", ratio=ratio)


def _gated(line: Line, series: Series, base: Series, gate: float) -> Line:
    return replace(line, gate=f"<= {gate}", kept=max(series.against(base)) <= gate)
