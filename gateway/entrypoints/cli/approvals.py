"""`sluice approvals`: which calls wait for a person, what exactly they would do, and the person's word. Through the API."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Format, chosen, say, show_one, show_rows

Call = Annotated[str, typer.Argument(help="The call's id.", metavar="CALL")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the decision.")]
Because = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the agent is told.")]
Hash = Annotated[
    str | None, typer.Option("--hash", help="As `show` printed it: then nothing else than that is decided about.")
]

COLUMNS = ("CALL", "TOOL", "AGENT", "UNTIL", "ON TIMEOUT", "ARGUMENTS")
WIDE = 60
"""Characters of the arguments in a list."""


def register(app: typer.Typer) -> None:
    """Add `approvals`."""
    several = options.group(
        "Approve or deny calls that wait for a person.",
        "sluice approvals ls",
        "sluice approvals show 01JCW3H5N0000000000000000A",
    )
    several.command()(ls)
    several.command()(show)
    several.command()(approve)
    several.command()(deny)
    app.add_typer(several, name="approvals")


def ls(output: options.Output = None) -> None:
    """List calls that wait for a person, what ends first at the top.

    \b
    Examples:
      sluice approvals ls
      sluice approvals ls -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    _, answer = client.ask("GET", "/v1/approvals")
    table = chosen(output) is Format.TABLE
    found = answer["approvals"]
    show_rows(
        [row(one) for one in found] if table else found, output, columns=COLUMNS, spare=("ON TIMEOUT", "AGENT", "UNTIL")
    )


def show(call: Call, output: options.Output = None) -> None:
    """Show exactly what one call would do.

    \b
    Examples:
      sluice approvals show 01JCW3H5N0000000000000000A
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("GET", f"/v1/approvals/{quote(call, safe='')}")
    show_one(answer, output, table={**answer, "arguments": json.dumps(answer["arguments"], sort_keys=True)})
    if answer["decision"] is None:
        say(f"  next: sluice approvals approve {call} --hash {answer['hash']}")


def approve(call: Call, reason: Why = "", shown: Hash = None, output: options.Output = None) -> None:
    """Let a call run, once and exactly as it was shown.

    \b
    Examples:
      sluice approvals approve 01JCW3H5N0000000000000000A
      sluice approvals approve 01JCW3H5N0000000000000000A --hash 9f2c… --reason "checked with finance"
    """
    _decide(call, "approve", reason, shown, output)


def deny(call: Call, reason: Because, shown: Hash = None, output: options.Output = None) -> None:
    """Refuse a call; its agent is told why.

    \b
    Examples:
      sluice approvals deny 01JCW3H5N0000000000000000A --reason "wrong customer"
    """
    _decide(call, "deny", reason, shown, output)


def _decide(call: str, verb: str, reason: str, shown: str | None, output: Format | None) -> None:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    body = {"reason": reason, **({"hash": shown} if shown is not None else {})}
    _, answer = client.ask("POST", f"/v1/approvals/{quote(call, safe='')}/{verb}", body=body)
    show_one(answer, output, table={**answer, "arguments": json.dumps(answer["arguments"], sort_keys=True)})
    say(f"{answer['by']} {answer['decision']} call {answer['call']}; it is {answer['state']}.")
    say(f"  next: sluice calls show {answer['call']}")


def row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as one line of a table."""
    text = json.dumps(one["arguments"], sort_keys=True, ensure_ascii=True)
    shown = text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"
    values = (one["call"], one["tool"], one["agent"], f"{one['until'][11:19]}Z", one["on_timeout"], shown)
    return dict(zip(COLUMNS, values, strict=True))
