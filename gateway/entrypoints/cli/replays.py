"""`sluice replays`: what was planned, how far it is, and start, pause, resume, cancel. Through the API."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.entrypoints.cli import dlq_replay, options
from gateway.entrypoints.cli.output import Format, chosen, show_rows

Replay = Annotated[str, typer.Argument(help="The replay's id.", metavar="REPLAY")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]
Opened = Annotated[bool, typer.Option("--open", help="Show what a patch changes in clear; it is noted who looked.")]

COLUMNS = ("REPLAY", "STATE", "BY", "SELECTION", "PROGRESS")
WIDE = 40


def register(app: typer.Typer) -> None:
    """Add `replays`."""
    several = options.group(
        "Replays: look at them and steer them.", "sluice replays ls", "sluice replays show 01JCW3H5N0000000000000000B"
    )
    for command in (ls, show, start, pause, resume, cancel):
        several.command()(command)
    app.add_typer(several, name="replays")


def ls(output: options.Output = None) -> None:
    """List replays, newest first.

    \b
    Examples:
      sluice replays ls
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    _, answer = client.ask("GET", "/v1/replays")
    found = answer["replays"]
    table = chosen(output) is Format.TABLE
    show_rows([row(one) for one in found] if table else found, output, columns=COLUMNS, spare=("BY",))


def show(replay: Replay, opened: Opened = False, output: options.Output = None) -> None:
    """Show one: what is done with which letters and why, what a patch changes, and how far it is.

    \b
    Examples:
      sluice replays show 01JCW3H5N0000000000000000A
      sluice replays show 01JCW3H5N0000000000000000A --open
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    query = "?open=true" if opened else ""
    _, answer = client.ask("GET", f"/v1/replays/{quote(replay, safe='')}{query}")
    dlq_replay.show(answer, output)


def start(replay: Replay, wait: dlq_replay.Wait = True, output: options.Output = None) -> None:
    """Start a replay that was planned.

    \b
    Examples:
      sluice replays start 01JCW3H5N0000000000000000A
      sluice replays start 01JCW3H5N0000000000000000A --no-wait
    """
    answer = _steer(replay, "start", None)
    if wait:
        answer = dlq_replay.follow(replay)
    dlq_replay.show(answer, output)
    dlq_replay.finish(answer)


def pause(replay: Replay, reason: Why = "", output: options.Output = None) -> None:
    """Send no more for now; calls in their lanes go on.

    \b
    Examples:
      sluice replays pause 01JCW3H5N0000000000000000A --reason "they are down again"
    """
    dlq_replay.show(_steer(replay, "pause", reason), output)


def resume(replay: Replay, reason: Why = "", output: options.Output = None) -> None:
    """Go on with a replay that was paused or stopped; failures so far are forgiven.

    \b
    Examples:
      sluice replays resume 01JCW3H5N0000000000000000A --reason "mended"
    """
    dlq_replay.show(_steer(replay, "resume", reason), output)


def cancel(replay: Replay, reason: Why = "", output: options.Output = None) -> None:
    """Send no more for good; calls in their lanes go on, and letters that were not sent stay open.

    \b
    Examples:
      sluice replays cancel 01JCW3H5N0000000000000000A --reason "wrong group"
    """
    dlq_replay.show(_steer(replay, "cancel", reason), output)


def row(one: dict[str, Any]) -> dict[str, Any]:
    """Return a replay as one line of a table."""
    text = json.dumps(one["selection"])
    shown = text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"
    values = (one["replay"], one["state"], one["by"], shown, dlq_replay.progress(one))
    return dict(zip(COLUMNS, values, strict=True))


def _steer(replay: str, verb: str, reason: str | None) -> dict[str, Any]:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    body = None if reason is None else {"reason": reason}
    _, answer = client.ask("POST", f"/v1/replays/{quote(replay, safe='')}/{verb}", body=body)
    return answer
