"""`sluice breakers`: which vendors are left alone and why; keep a breaker open or closed, or let it decide. Through the API."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Format, chosen, say, show_rows

Connector = Annotated[str, typer.Argument(help="A connector: all its breakers.", metavar="CONNECTOR")]
Connection = Annotated[str | None, typer.Option("--connection", help="Only the breaker of this connection's origin.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What those who wait are told.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="As 30m or 2h; default: until `auto`.")]
Only = Annotated[str | None, typer.Option("--connector", help="Only the breakers of this connector.")]

COLUMNS = ("CONNECTOR", "ORIGIN", "STATE", "BY", "UNTIL", "FAILED", "REASON")


def register(app: typer.Typer) -> None:
    """Add `breakers`."""
    several = options.group(
        "Look at the breakers, and keep them open or closed.",
        "sluice breakers ls",
        'sluice breakers open crm --reason "they migrate" --for 30m',
    )
    several.command()(ls)
    several.command("open")(keep_open)
    several.command("close")(keep_closed)
    several.command()(auto)
    app.add_typer(several, name="breakers")


def ls(connector: Only = None, output: options.Output = None) -> None:
    """List the breakers, open ones first.

    \b
    Examples:
      sluice breakers ls
      sluice breakers ls --connector crm -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    query = f"?{urlencode({'connector': connector})}" if connector is not None else ""
    _, answer = client.ask("GET", f"/v1/breakers{query}")
    show(answer["breakers"], output)


def keep_open(
    connector: Connector,
    reason: Reason,
    connection: Connection = None,
    lasting: For = None,
    output: options.Output = None,
) -> None:
    """Let no call reach a vendor: calls wait, and spend no attempt.

    \b
    Examples:
      sluice breakers open crm --reason "they are migrating" --for 2h
      sluice breakers open crm --connection crm-eu --reason "wrong answers since noon"
    """
    steer("open", connector, connection, reason=reason, lasting=lasting, output=output)


def keep_closed(
    connector: Connector,
    reason: Reason,
    connection: Connection = None,
    lasting: For = None,
    output: options.Output = None,
) -> None:
    """Let calls reach a vendor whatever comes back: failures are counted and do not open the breaker.

    \b
    Examples:
      sluice breakers close crm --reason "they say it is mended" --for 10m
      sluice breakers close crm --connection crm-eu --reason "their status page is wrong"
    """
    steer("close", connector, connection, reason=reason, lasting=lasting, output=output)


def auto(connector: Connector, reason: Reason, connection: Connection = None, output: options.Output = None) -> None:
    """Let breakers decide by themselves again; one that was kept open is probed before it closes.

    \b
    Examples:
      sluice breakers auto crm --reason "migration done"
      sluice breakers auto crm --connection crm-eu --reason "migration done"
    """
    steer("auto", connector, connection, reason=reason, lasting=None, output=output)


def steer(
    verb: str, connector: str, connection: str | None, *, reason: str, lasting: str | None, output: Format | None
) -> None:
    """Say an operator's word and show what became of it."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    given = {"connector": connector, "connection": connection, "reason": reason, "for": lasting}
    body = {name: value for name, value in given.items() if value is not None}
    _, answer = client.ask("POST", f"/v1/breakers/{verb}", body=body)
    show(answer["breakers"], output)
    for one in answer["breakers"]:
        kept = (
            f"kept {one['mode']} until {one['until'] or 'somebody lets it go'}"
            if one["mode"] != "auto"
            else one["state"]
        )
        say(f"The breaker of {one['connector']} at {one['origin']} is {kept}.")
    if verb != "auto":
        only = f" --connection {connection}" if connection else ""
        say(f'  next: sluice breakers auto {connector}{only} --reason "…"')


def show(breakers: list[dict[str, Any]], output: Format | None) -> None:
    """Write breakers."""
    table = chosen(output) is Format.TABLE
    show_rows([row(one) for one in breakers] if table else breakers, output, columns=COLUMNS, spare=("FAILED", "BY"))


def row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a breaker as one line of a table."""
    until = f"{one['until'][11:19]}Z" if one["until"] else None
    failed = None if one["calls"] is None else f"{one['failures']}/{one['calls']}"
    by = one["owner"] if one["mode"] != "auto" else "auto"
    values = (one["connector"], one["origin"], one["state"], by, until, failed, one["reason"] or None)
    return dict(zip(COLUMNS, values, strict=True))
