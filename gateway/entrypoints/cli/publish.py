"""`sluice publish`: JSON lines to the topic `tool-calls`, many to one round trip; what cannot be an event never leaves."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Protocol

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, stop

if TYPE_CHECKING:
    from gateway.settings import Settings

BATCH = 256
"""Events to one round trip."""

SOURCE = "agent/cli"
"""The source of lines that are no whole event."""

File = Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; `-` is stdin.")]
Advance = Callable[[int], None]


@dataclass(slots=True)
class Report:
    """What became of a file."""

    name: str
    published: int = 0
    refused: int = 0
    first: str | None = None
    last: str | None = None
    last_line: int = 0
    _pending: list[tuple[int, str]] = field(default_factory=list)


def register(app: typer.Typer) -> None:
    """Add `publish`."""
    app.command()(publish)


def publish(
    file: File,
    redis: options.Redis = None,
    bus: options.Bus = None,
    data: options.Data = None,
    output: options.Output = None,
) -> None:
    """Publish tool calls from JSON lines.

    A line is a whole CloudEvent, or a bare `data` object, which gets the source agent/cli and a fresh id. A line that is
    neither is told as file:line and left out. Exit 2: nothing was published, since no line was any. Exit 6: only some was,
    because other lines were none, or because the bus went away on the way.

    \b
    Examples:
      sluice publish events.jsonl
      echo '{"tool": "crm.echo", "arguments": {}}' | sluice publish -
    """
    settings = options.settings(redis=redis, bus=bus, data=data)
    if file != "-" and not Path(file).is_file():
        stop(Exit.NOT_FOUND, f"There is no file {file}.")
    report = Report(name="stdin" if file == "-" else file)
    failed = _run(settings, file, report)
    fields = {"published": report.published, "refused": report.refused, "first": report.first, "last": report.last}
    if failed is None or report.published:
        show_one(fields, output)
    if chosen(output) is not Format.TABLE:
        say(f"{report.published} published, {report.refused} refused.")
    if failed is not None:
        _stop_short(report, failed)
    if report.refused:
        raise typer.Exit(Exit.PARTIAL if report.published else Exit.USAGE)


def _run(settings: "Settings", file: str, report: Report) -> Exception | None:
    """Publish; returns what made it stop early."""
    from gateway.lanes.checkup import UNANSWERED  # noqa: PLC0415 - `--help` does not need it
    from gateway.policy.bus_address import Misnamed  # noqa: PLC0415

    with _opened(file) as (stream, size), _progress(size) as advance:
        try:
            asyncio.run(_publish(settings, stream, report, advance))
        except (*UNANSWERED, OSError) as error:
            return error
        except Misnamed as error:
            stop(Exit.USAGE, str(error))
    return None


class _Inlet(Protocol):
    async def publish(self, events: Sequence[str | bytes]) -> list[str]: ...


@asynccontextmanager
async def _inlet(settings: "Settings") -> AsyncIterator[_Inlet]:
    """Reach the topic, on whichever bus."""
    from gateway.lanes.connect import connect  # noqa: PLC0415 - `--help` does not need it
    from gateway.lanes.inlet import Inlet  # noqa: PLC0415
    from gateway.policy.bus_address import kafka_servers  # noqa: PLC0415
    from schemas.topics import Topics  # noqa: PLC0415

    topic = Topics(settings.topic_prefix).calls
    if kafka_servers(settings.bus_url) is None:
        async with connect(settings.bus_url or settings.state_url) as redis:
            yield Inlet(redis, topic)
        return
    from gateway.kafka.cluster import brokers_of  # noqa: PLC0415
    from gateway.kafka.inlet import KafkaInlet  # noqa: PLC0415
    from gateway.kafka.topics import AWAY, Unfit, Wanted, ensure  # noqa: PLC0415

    cluster = brokers_of(settings)
    wanted = Wanted(names=[topic], partitions=settings.bus_partitions, copies=settings.kafka_copies)
    try:
        await ensure(cluster, wanted)
        async with KafkaInlet(cluster, topic) as inlet:
            yield inlet
    except (*AWAY, Unfit) as error:
        raise OSError(f"Kafka: {error}") from error


async def _publish(settings: "Settings", stream: BinaryIO, report: Report, advance: Advance) -> None:
    async with _inlet(settings) as inlet:
        async for batch in _batches(settings, stream, report, advance):
            entries = await inlet.publish([event for _, event in batch])
            report.published += len(entries)
            report.first, report.last = report.first or entries[0], entries[-1]
            report.last_line = batch[-1][0]


async def _batches(
    settings: "Settings", stream: BinaryIO, report: Report, advance: Advance
) -> AsyncIterator[list[tuple[int, str | bytes]]]:
    from gateway.entrypoints.cli.events import event_of  # noqa: PLC0415

    batch: list[tuple[int, str | bytes]] = []
    for number, raw in enumerate(_lines(stream, settings.max_event_bytes), start=1):
        advance(len(raw))
        if not raw.strip():
            continue
        try:
            batch.append((number, event_of(raw, source=SOURCE, max_bytes=settings.max_event_bytes)))
        except ValueError as wrong:
            report.refused += 1
            say(f"{report.name}:{number}: {wrong}")
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield lines; of one that is far too long only so much that it is seen to be, since a line may have no end."""
    while line := stream.readline(most + 2):
        rest = line
        while not rest.endswith(b"\n") and len(rest) == most + 2:
            rest = stream.readline(most + 2)
        yield line


def _stop_short(report: Report, error: Exception) -> None:
    if report.published == 0:
        stop(
            Exit.UNAVAILABLE,
            f"The bus does not answer: {error}",
            "sluice up     (or set SLUICE_REDIS_URL, SLUICE_BUS_URL)",
        )
    say(f"{report.name}: published up to line {report.last_line}; of the next {BATCH} some may be published too.")
    stop(
        Exit.PARTIAL, f"The bus went away: {error}", "publish the rest again: whole events with the same ids are known"
    )


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if file == "-":
        yield sys.stdin.buffer, None
    else:
        with Path(file).open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size


@contextmanager
def _progress(size: int | None) -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("publishing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("publishing", total=size)
        yield lambda count: progress.advance(task, count)
