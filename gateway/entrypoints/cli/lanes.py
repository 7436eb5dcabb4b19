"""`sluice lanes`: which lanes wait and why, how full their limits are; pause them and let them go on. Through the API."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Format, chosen, say, show_one, show_rows, span

Target = Annotated[str, typer.Argument(help="A connector, or a tool: connector.operation.", metavar="TARGET")]
Lane = Annotated[str, typer.Argument(help="A tool, or a lane as `ls -o json` names it.", metavar="LANE")]
Connection = Annotated[str | None, typer.Option("--connection", help="Only this connection.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What those who wait are told.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="As 30m or 2h; default: until resumed.")]
Connector = Annotated[str | None, typer.Option("--connector", help="Only the lanes of this connector.")]
Held = Annotated[bool | None, typer.Option("--held/--not-held", help="Only lanes that something holds, or does not.")]
Most = Annotated[int, typer.Option("--most", min=1, help="Lanes to list.")]

COLUMNS = ("LANE", "WAITING", "LIVE", "OLDEST", "ETA", "HELD BY")


def register(app: typer.Typer) -> None:
    """Add `lanes`."""
    several = options.group(
        "Look at the lanes, pause and resume them.", "sluice lanes ls", "sluice lanes show crm.contacts.create"
    )
    several.command()(ls)
    several.command()(show)
    several.command()(pause)
    several.command()(resume)
    app.add_typer(several, name="lanes")


def ls(connector: Connector = None, held: Held = None, most: Most = 100, output: options.Output = None) -> None:
    """List the lanes with calls that have not ended, most waiting ones first, and what is held without a call.

    JSON has such a pause or open breaker as a line like that of a lane: `lane` is its target, and the counts are null.

    \b
    Examples:
      sluice lanes ls
      sluice lanes ls --connector crm --held
      sluice lanes ls -o jsonl
    """
    given = {"connector": connector, "held": None if held is None else str(held).lower()}
    lanes, gates, more = _pages({name: value for name, value in given.items() if value is not None}, most)
    lanes.sort(key=lambda lane: -(lane["waiting"] or 0))
    # A gate that a lane of the list waits for is told there.
    told = {lane["hold"]["detail"] for lane in lanes if lane["hold"]}
    idle = [gate for gate in gates if gate["hold"]["detail"] not in told]
    if chosen(output) is Format.TABLE:
        show_rows([row(lane) for lane in lanes], output, columns=COLUMNS, spare=("LIVE", "OLDEST"))
        for gate in idle:
            say(f"Held: {gate['hold']['detail']}\n  next: {gate['hold']['action']}")
    else:
        show_rows(lanes + [like_a_lane(gate) for gate in idle], output, columns=COLUMNS)
    if more:
        say(f"There are more lanes than these {len(lanes)}.\n  next: sluice lanes ls --most {most * 10}")


def show(lane: Lane, connection: Connection = None, output: options.Output = None) -> None:
    """Show one lane: what waits, what holds it, how full its limits are.

    \b
    Examples:
      sluice lanes show crm.contacts.create
      sluice lanes show crm.contacts.create --connection crm-main -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    query = f"?{urlencode({'connection': connection})}" if connection is not None else ""
    _, answer = client.ask("GET", f"/v1/lanes/{quote(lane, safe='')}{query}")
    show_one(answer, output, table=facts(answer))
    if chosen(output) is Format.TABLE and answer["limits"]:
        typer.echo("")
        rows = [limit_row(limit) for limit in answer["limits"]]
        show_rows(rows, output, columns=("LIMIT", "USED/MOST", "WINDOW", "LEARNED"))


def pause(
    target: Target, reason: Reason, connection: Connection = None, lasting: For = None, output: options.Output = None
) -> None:
    """Let no call of a connector or tool start; calls that are under way go on, the others wait.

    \b
    Examples:
      sluice lanes pause crm --reason "the vendor is being upgraded" --for 30m
      sluice lanes pause crm.contacts.create --connection crm-main --reason "wrong import"
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    body = {**_target(target, connection), "reason": reason, **({"for": lasting} if lasting is not None else {})}
    _, answer = client.ask("POST", "/v1/lanes/pause", body=body)
    show_one(answer, output)
    say(f"{answer['target']} is paused until {answer['until'] or 'it is resumed'}.")
    say(f"  next: sluice lanes resume {answer['target']}")


def resume(target: Target, connection: Connection = None, output: options.Output = None) -> None:
    """End a pause, and what a vendor asked to wait for; name what was paused as it was named then.

    \b
    Examples:
      sluice lanes resume crm
      sluice lanes resume crm.contacts.create --connection crm-main
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("POST", "/v1/lanes/resume", body=_target(target, connection))
    show_one(answer, output)
    say(f"{answer['target']} {'goes on' if answer['was_paused'] or answer['opened'] else 'was not paused'}.")
    for closed in answer["opened"]:
        say(f"Opened: {closed}, which the vendor had asked to leave alone. If it still refuses, it is closed again.")
    for other in answer["still"]:
        say(f"Still closed: {other}\n  next: sluice lanes resume {other}")


def row(lane: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lane as one line of a table."""
    values = (lane["lane"], lane["waiting"], lane["live"], span(lane["oldest_s"]), span(lane["eta_s"]))
    return dict(zip(COLUMNS, (*values, held_by(lane["hold"])), strict=True))


def like_a_lane(gate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a gate over lanes without calls in the shape of a lane."""
    unknown = dict.fromkeys(("live", "waiting", "under_way_or_delayed", "oldest_s", "eta_s"))
    named = {name: gate[name] for name in ("tool", "connector", "connection")}
    return {"lane": gate["target"], **named, **unknown, "hold": gate["hold"], "limits": []}


def held_by(hold: Mapping[str, Any] | None) -> str | None:
    """Say in few words what holds a lane."""
    if hold is None:
        return None
    until = f" until {hold['until'][11:19]}Z" if hold["until"] else ""
    return f"{hold['reason']}{' ' + hold['limit'] if hold['limit'] else ''}{until}"


def facts(lane: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wants to know of a lane, without its limits."""
    shown: dict[str, Any] = {name: lane[name] for name in ("lane", "waiting", "live")}
    shown |= {"under way": lane["under_way_or_delayed"], "oldest": span(lane["oldest_s"]), "eta": span(lane["eta_s"])}
    hold = lane["hold"]
    return shown | (
        {} if hold is None else {"held by": hold["reason"], "why": hold["detail"], "action": hold["action"]}
    )


def limit_row(limit: Mapping[str, Any]) -> dict[str, Any]:
    """Return a limit as one line of a table."""
    window = "at once" if limit["window_s"] is None else span(limit["window_s"])
    used = f"{'-' if limit['used'] is None else limit['used']}/{limit['most']}"
    return {"LIMIT": limit["limit"], "USED/MOST": used, "WINDOW": window, "LEARNED": limit["learned"]}


def _target(target: str, connection: str | None) -> dict[str, Any]:
    body = {"tool" if "." in target else "connector": target}
    return body | ({"connection": connection} if connection is not None else {})


def _pages(query: Mapping[str, str], most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """Return lanes, what is closed, and whether there are more lanes than `most`."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    lanes: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        _, answer = client.ask("GET", f"/v1/lanes?{urlencode(asked)}")
        lanes += answer["lanes"]
        cursor = answer["cursor"]
        if cursor is None or len(lanes) >= most:
            return lanes[:most], answer["closed"], cursor is not None or len(lanes) > most
