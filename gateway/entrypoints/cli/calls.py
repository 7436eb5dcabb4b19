"""`sluice call` and `sluice calls`: publish one call over HTTP, look at it, withdraw it."""

import sys
import time
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from ulid import ULID

from gateway.entrypoints.cli import arguments, history, options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, span, stop

MAX_WAIT_S = 60
"""Longest wait of one request; longer waits are several requests."""

_ENDED = 200

Wait = Annotated[float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for the end.")]
Tool = Annotated[str, typer.Argument(help="connector.operation", metavar="TOOL")]
CallId = Annotated[str, typer.Argument(help="The call's id.", metavar="ID")]
Given = Annotated[
    list[str] | None, typer.Option("--argument", "-a", metavar="K=V", help="An argument; K:=JSON for any JSON value.")
]
Json = Annotated[
    str | None, typer.Option("--json", metavar="J", help="All arguments as a JSON object; `-` reads stdin.")
]
Connection = Annotated[str | None, typer.Option("--connection", help="Whose credentials to use.")]
Session = Annotated[str | None, typer.Option("--session", help="The agent's task this call belongs to.")]
Key = Annotated[str | None, typer.Option("--key", help="Idempotency key; default: a fresh one.")]
Priority = Annotated[str | None, typer.Option("--priority", help="interactive, normal or batch.")]
Deadline = Annotated[str | None, typer.Option("--deadline", metavar="TIME", help="Latest start, RFC 3339.")]


def register(app: typer.Typer) -> None:
    """Add `call` and `calls`."""
    app.command()(call)
    several = options.group(
        "Look at calls and withdraw them.",
        "sluice calls ls --since 30m --state failed",
        "sluice calls show 01JCW3H5N0000000000000000A",
    )
    history.register(several)
    several.command()(show)
    several.command()(cancel)
    app.add_typer(several, name="calls")


def call(
    tool: Tool,
    argument: Given = None,
    json: Json = None,
    connection: Connection = None,
    session: Session = None,
    key: Key = None,
    wait: Wait = 30.0,
    priority: Priority = None,
    deadline: Deadline = None,
    output: options.Output = None,
) -> None:
    """Publish one call and wait for its result.

    Exit 0 when it completed, 1 when it ended otherwise, 6 when it still runs.

    \b
    Examples:
      sluice call crm.contacts.create -a email=a@b.c -a name=Ada
      sluice call crm.orders.create --json '{"ref": "o-1"}' --key order-1
      sluice call crm.contacts.get -a id=c1 --wait 0 -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    optional = {"connection": connection, "session": session, "priority": priority, "deadline": deadline}
    body: dict[str, Any] = {"tool": tool, "arguments": _arguments(tool, argument or [], json)}
    body |= {name: value for name, value in optional.items() if value is not None}
    until_s = time.monotonic() + wait
    first_s = min(int(wait), MAX_WAIT_S)
    # With a key of its own the call can be repeated safely if the answer is lost.
    used = key or f"cli-{ULID()}"
    headers = {"Prefer": f"wait={first_s}", "Idempotency-Key": used}
    try:
        status, answer = client.ask("POST", "/v1/calls", wait_s=first_s, body=body, headers=headers)
    except typer.Exit as ended:
        if ended.exit_code == Exit.UNAVAILABLE and key is None:
            say(f"  to repeat it without a second effect: --key {used}")
        raise
    if status != _ENDED and time.monotonic() < until_s:
        status, answer = _wait(answer["call"], until_s)
    _told(status, answer, output, waited=wait > 0)


def show(call_id: CallId, wait: Wait = 0.0, output: options.Output = None) -> None:
    """Show a call: where it is and why, or how it ended, and what happened to it.

    \b
    Examples:
      sluice calls show 01JCW3H5N0000000000000000A
      sluice calls show 01JCW3H5N0000000000000000A --wait 60 -o json
    """
    status, answer = _wait(call_id, time.monotonic() + wait)
    show_one(answer, output, table=summary(status, answer))
    if chosen(output) is Format.TABLE:
        for line in history.lines(history.timeline(call_id) or []):
            typer.echo(line)


def cancel(call_id: CallId, output: options.Output = None) -> None:
    """Withdraw a call that has not started.

    \b
    Example:
      sluice calls cancel 01JCW3H5N0000000000000000A
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    status, answer = client.ask("DELETE", f"/v1/calls/{quote(call_id, safe='')}")
    show_one(answer, output, table=summary(status, answer))


def summary(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    """Return what a person wants to know first."""
    if status != _ENDED:
        return {"call": answer["call"], "state": answer["state"], **_waits(answer["hold"])}
    shown = {name: answer[name] for name in ("call", "tool", "state", "effect", "http_status", "summary", "result")}
    error = answer.get("error")
    if error:
        shown |= {name: error[name] for name in ("class", "message", "retryable", "dead_letter", "action")}
        shown |= {error["pointer"] or "/": error["message"] for error in error.get("errors") or []}
    return shown


def _waits(hold: dict[str, Any]) -> dict[str, Any]:
    """Say why a call waits, where it stands and for how long; what nobody knows is left out."""
    place, eta = hold["position"], span(hold["eta_s"])
    shown = {
        "reason": hold["reason"],
        "detail": hold["detail"],
        "position": None if place is None else f"{place} before it" if place else "next in its lane",
        "eta": None if eta is None else f"starts in about {eta}",
        "action": hold["action"],
    }
    return {name: value for name, value in shown.items() if value is not None}


def _wait(call_id: str, until_s: float) -> tuple[int, dict[str, Any]]:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    while True:
        wait_s = max(0, min(MAX_WAIT_S, round(until_s - time.monotonic())))
        query = f"?{urlencode({'wait': wait_s})}" if wait_s else ""
        status, answer = client.ask("GET", f"/v1/calls/{quote(call_id, safe='')}{query}", wait_s=wait_s)
        if status == _ENDED or until_s - time.monotonic() < 1:
            return status, answer


def _told(status: int, answer: dict[str, Any], output: Format | None, *, waited: bool) -> None:
    show_one(answer, output, table=summary(status, answer))
    if status == _ENDED:
        if answer["state"] != "completed":
            stop(Exit.FAILED, f"The call ended as {answer['state']}.", (answer.get("error") or {}).get("action", ""))
    elif waited:
        stop(Exit.PARTIAL, "The call was accepted and has not ended.", f"sluice calls show {answer['call']} --wait 60")


def _arguments(tool: str, given: list[str], whole: str | None) -> dict[str, Any]:
    try:
        if whole is not None:
            if given:
                stop(Exit.USAGE, "Give arguments either by -a or by --json.")
            return arguments.whole(sys.stdin.read() if whole == "-" else whole)
        return arguments.parse(given, _schema(tool) if any(arguments.needs_schema(one) for one in given) else None)
    except ValueError as wrong:
        stop(Exit.USAGE, str(wrong))


def _schema(tool: str) -> dict[str, Any] | None:
    """Ask the gateway what the tool takes; an unknown tool is left for intake to refuse."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("GET", f"/v1/connectors?{urlencode({'tool': tool})}")
    return answer["tools"][0]["input"] if answer["tools"] else None
