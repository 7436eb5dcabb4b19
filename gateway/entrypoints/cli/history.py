"""`sluice calls ls`, `tail` and the timeline of `show`: what the journal knows of calls. Through the API."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_rows, stop

SessionOf = Annotated[str | None, typer.Option("--session", help="Only this session.")]
AgentOf = Annotated[str | None, typer.Option("--agent", help="Only this agent.")]
ToolOf = Annotated[str | None, typer.Option("--tool", help="Only this tool, or with no dot in it this connector.")]
StateOf = Annotated[str | None, typer.Option("--state", help="Only this state: completed, failed, pending …")]
ErrorOf = Annotated[str | None, typer.Option("--error", metavar="CLASS", help="Only this class of failure.")]
TraceOf = Annotated[str | None, typer.Option("--trace", metavar="ID", help="Only this trace: its id or a traceparent.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Accepted since: RFC 3339, or 30m, 12h, 7d.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Accepted before.")]
Below = Annotated[float | None, typer.Option("--confidence-below", metavar="N", help="Confidence below N, 0 to 1.")]
From = Annotated[float | None, typer.Option("--confidence-from", metavar="N", help="Confidence of at least N.")]
TextOf = Annotated[str | None, typer.Option("--text", metavar="WORDS", help="Words in ids, names and messages.")]
Most = Annotated[int, typer.Option("--most", min=1, help="Calls to list.")]
MaybeId = Annotated[str | None, typer.Argument(help="The call to follow; without it all calls.", metavar="[ID]")]

COLUMNS = ("CALL", "TIME", "TOOL", "STATE", "TRIES", "AGENT", "SESSION", "TOLD")
PAGE = 500
"""Calls of one page, as many as the API gives."""

FIRST, SPAN = 20, "1h"
"""Calls that are told at first, and since when a call was accepted that is followed: who follows all wants to see what happens now."""

REMEMBERED = 20 * PAGE
"""Calls whose standing is remembered, the newest."""

LOOK_EVERY_S = 1.0


def register(several: typer.Typer) -> None:
    """Add `ls` and `tail` to `calls`."""
    several.command()(ls)
    several.command()(tail)


def ls(
    session: SessionOf = None,
    agent: AgentOf = None,
    tool: ToolOf = None,
    state: StateOf = None,
    error: ErrorOf = None,
    trace: TraceOf = None,
    since: Since = None,
    until: Until = None,
    confidence_from: From = None,
    confidence_below: Below = None,
    text: TextOf = None,
    most: Most = 50,
    output: options.Output = None,
) -> None:
    """List calls, newest first, as the journal has them.

    \b
    Examples:
      sluice calls ls --since 30m --state failed
      sluice calls ls --session run-42 -o jsonl
      sluice calls ls --tool crm --error receive.reset --text "closed the connection"
      sluice calls ls --confidence-below 0.5 --since 7d
    """
    given = {"session": session, "agent": agent, "state": state, "error": error, "trace": trace, "since": since}
    given |= {"until": until, "text": text, **_tool(tool)}
    given |= {"confidence_from": _number(confidence_from), "confidence_below": _number(confidence_below)}
    calls, more = _pages({name: value for name, value in given.items() if value is not None}, most)
    table = chosen(output) is Format.TABLE
    show_rows(
        [row(call) for call in calls] if table else calls,
        output,
        columns=COLUMNS,
        spare=("SESSION", "AGENT", "TRIES", "TIME"),
    )
    if more:
        say(f"There are more calls than these {len(calls)}.\n  next: sluice calls ls --most {most * 10}")


def tail(
    call_id: MaybeId = None,
    session: SessionOf = None,
    agent: AgentOf = None,
    tool: ToolOf = None,
    state: StateOf = None,
    output: options.Output = None,
) -> None:
    """Follow one call until it has ended, or all calls until Ctrl-C.

    \b
    Examples:
      sluice calls tail 01JCW3H5N0000000000000000A
      sluice calls tail --session run-42
      sluice calls tail --state failed -o jsonl
    """
    if call_id is not None:
        _follow(call_id, output)
        return
    given = {"session": session, "agent": agent, "state": state, **_tool(tool)}
    try:
        _watch({name: value for name, value in given.items() if value is not None}, output)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.OK) from None


def timeline(call_id: str) -> list[dict[str, Any]] | None:
    """Return the events of a call so far; None where no journal is kept."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    answer = client.maybe("GET", _events(call_id), headers={"Accept": "application/json"})
    return None if answer is None else list(answer["events"])


def lines(events: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a timeline for people: when, how long after the first, and what happened."""
    for event in events:
        yield f"{event['time'][11:23]}Z  {event['text']}"


def row(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call as one line of a table."""
    told = call["error"] or call["summary"]
    accepted = None if call["accepted"] is None else call["accepted"][:19] + "Z"
    values = (
        call["call"],
        accepted,
        call["tool"],
        call["state"],
        call["attempts"],
        call["agent"],
        call["session"],
        told,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _follow(call_id: str, output: Format | None) -> None:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    state, last = None, None
    while state is None:
        for event in client.stream(_events(call_id), last=last):
            last = event["id"]
            typer.echo(
                next(lines([event])) if chosen(output) is Format.TABLE else json.dumps(event, ensure_ascii=False)
            )
            if event["type"] == "tool.call.settled":
                state = event["data"]["state"]
    if state != "completed":
        stop(Exit.FAILED, f"The call ended as {state}.", f"sluice calls show {call_id}")


def _watch(query: dict[str, str], output: Format | None) -> None:
    """Tell each call as it stands, and again whenever that changes; a gateway that restarts is waited for."""
    calls, _ = _pages({**query, "since": SPAN}, PAGE)
    seen = {one["call"]: _standing(one) for one in calls}
    for one in reversed(calls[:FIRST]):
        _tell(one, output)
    waits = False
    while True:
        time.sleep(LOOK_EVERY_S)
        found = _changed({**query, "since": SPAN, "limit": str(PAGE)}, seen)
        if found is None and not waits:
            say("The gateway or its journal does not answer; waiting for it.")
        waits = found is None
        for one in reversed(found or []):
            seen[one["call"]] = _standing(one)
            _tell(one, output)
        for call in sorted(seen)[:-REMEMBERED]:
            del seen[call]


def _changed(query: Mapping[str, str], seen: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]] | None:
    """Return calls that are new or stand otherwise, newest first; None while nothing answers. A page that is all new is not the last."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.again(f"/v1/calls?{urlencode({**query, **cursor})}")
        if answer is None:
            return None
        fresh = [one for one in answer["calls"] if seen.get(one["call"]) != _standing(one)]
        found += fresh
        if answer["cursor"] is None or len(fresh) < len(answer["calls"]) or len(found) >= REMEMBERED:
            return found
        cursor = {"cursor": answer["cursor"]}


def _tell(call: Mapping[str, Any], output: Format | None) -> None:
    shown = "  ".join(str(value) for value in row(call).values() if value is not None)
    typer.echo(shown if chosen(output) is Format.TABLE else json.dumps(call, ensure_ascii=False))


def _standing(call: Mapping[str, Any]) -> tuple[Any, ...]:
    return call["state"], call["attempts"], call["summary"]


def _tool(tool: str | None) -> dict[str, str | None]:
    return {"tool" if tool is not None and "." in tool else "connector": tool}


def _number(value: float | None) -> str | None:
    return None if value is None else str(value)


def _events(call_id: str) -> str:
    return f"/v1/calls/{quote(call_id, safe='')}/events"


def _pages(query: Mapping[str, str], most: int) -> tuple[list[dict[str, Any]], bool]:
    """Return calls, and whether there are more than `most`."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    calls: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = {**query, "limit": str(min(PAGE, most - len(calls))), **({"cursor": cursor} if cursor else {})}
        _, answer = client.ask("GET", f"/v1/calls?{urlencode(asked)}")
        calls += answer["calls"]
        cursor = answer["cursor"]
        if cursor is None or len(calls) >= most:
            return calls, cursor is not None
