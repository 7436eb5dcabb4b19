"""`sluice dlq reindex`: on the machine itself, because it mends what the API looks into."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, say, show_one, stop

if TYPE_CHECKING:  # pydantic costs a tenth of a second, which `--help` does not have
    from gateway.flow.reindex import Report
    from gateway.journal.letter_rows import LetterRows
    from gateway.settings import Settings

Advance = Callable[[int], None]

MOST_NAMED = 20
"""Letters in doubt that are named."""


def register(app: typer.Typer) -> None:
    """Add `reindex`."""
    app.command()(reindex)


def reindex(
    redis: options.Redis = None,
    journal: options.Journal = None,
    data: options.Data = None,
    output: options.Output = None,
) -> None:
    """Rebuild what is known of dead letters from their topic: the journal's table, and what Redis lost.

    Reads `dead-letters` from its beginning. What Redis knows is left alone; a letter of which it has lost how it stands is open
    again unless it is told to be over, and where nobody tells any more, its effect is unknown. Twice changes nothing, and
    everything may run meanwhile. Exit 6: the journal could not be written.

    \b
    Examples:
      sluice dlq reindex
      sluice dlq reindex --journal postgresql://sluice@db/sluice -o json
    """
    from gateway.journal.database import Away, Misplaced  # noqa: PLC0415 - `--help` does not need it
    from gateway.lanes.checkup import UNANSWERED  # noqa: PLC0415
    from gateway.lanes.spread.agreement import StateUnfit  # noqa: PLC0415
    from gateway.policy.state_address import Unreadable  # noqa: PLC0415

    settings = options.settings(redis=redis, journal=journal, data=data)
    try:
        report, without = asyncio.run(_run(settings))
    except Misplaced as wrong:
        stop(Exit.USAGE, str(wrong))
    except Away as away:
        stop(Exit.PARTIAL, f"The journal went away: {away}", "sluice dlq reindex     (it goes on where it is not done)")
    except (StateUnfit, Unreadable) as unfit:
        stop(Exit.USAGE, str(unfit))
    except (*UNANSWERED, OSError) as error:
        stop(Exit.UNAVAILABLE, f"Redis does not answer: {error}", "sluice up     (or set SLUICE_REDIS_URL)")
    named = asdict(report)
    show_one(named | {"in_doubt": report.in_doubt[:MOST_NAMED]}, output)
    _tell(report, without)


async def _run(settings: "Settings") -> tuple["Report", str | None]:
    """Rebuild; also returns why the journal was left out."""
    from gateway.flow.reindex import Reindex  # noqa: PLC0415 - `--help` does not need it
    from gateway.lanes.letter_topic import LetterTopic  # noqa: PLC0415
    from gateway.lanes.spread.agreement import agree  # noqa: PLC0415
    from gateway.lanes.spread.letters import AllLetterTopics  # noqa: PLC0415
    from gateway.lanes.spread.shards import reach  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        shards = await stack.enter_async_context(reach(settings.state_url, settings.topic_prefix, settings.shards))
        await agree(shards)
        topics = {seat.shard: LetterTopic(seat.redis, seat.topics, seat.shard) for seat in shards.parts}
        topic = AllLetterTopics(list(topics.values()), [topics[seat.shard] for seat in shards.writing])
        length = await topic.length()
        rows, without = await _journal(settings, stack)
        with _progress(length) as advance:
            return await Reindex(topic, rows).run(advance), without


async def _journal(settings: "Settings", stack: AsyncExitStack) -> tuple["LetterRows | None", str | None]:
    """Open the journal; one that is not there is not made: nobody would write what happens from now on."""
    from gateway.journal.database import Database, Missing  # noqa: PLC0415
    from gateway.journal.letter_rows import LetterRows, Unready  # noqa: PLC0415

    looking = Database(settings.journal, writes=False)
    stack.push_async_callback(looking.close)
    try:
        await LetterRows(looking).check()
    except (Missing, Unready) as why:
        return None, str(why)
    writing = Database(settings.journal, writes=True)
    stack.push_async_callback(writing.close)
    return LetterRows(writing), None


def _tell(report: "Report", without: str | None) -> None:
    say(f"{report.letters} letters read; {report.restored} restored, {report.doubted} in doubt.")
    if report.rows is None:
        say(f"The journal was left out: {without}.")
        say("  next: sluice journal     (then reindex again)")
    if report.doubted:
        say("Of letters in doubt nobody can tell whether they were replayed meanwhile.")
        say(f"  next: sluice dlq show {report.in_doubt[0]}")


@contextmanager
def _progress(length: int) -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("reindexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("reindexing", total=length)
        yield lambda count: progress.advance(task, count)
