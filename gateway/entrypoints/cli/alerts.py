"""`sluice alerts`: which patterns need a person, and the person's word that ends one. Through the API."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Format, chosen, say, show_one, show_rows

Alert = Annotated[str, typer.Argument(help="The alert's id.", metavar="ALERT")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the alert, and told where it was told.")]
All = Annotated[bool, typer.Option("--all", help="Also those that were resolved within a day.")]

COLUMNS = ("ALERT", "KIND", "STATE", "OPENED", "COUNT", "WHAT")


def register(app: typer.Typer) -> None:
    """Add `alerts`."""
    several = options.group(
        "Patterns that need a person: look at them, and end them.",
        "sluice alerts ls",
        "sluice alerts show 01JCW3H5N0000000000000000A",
    )
    several.command()(ls)
    several.command()(show)
    several.command()(resolve)
    app.add_typer(several, name="alerts")


def ls(everything: All = False, output: options.Output = None) -> None:
    """List open alerts, the newest at the top.

    \b
    Examples:
      sluice alerts ls
      sluice alerts ls --all -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    _, answer = client.ask("GET", f"/v1/alerts?state={'all' if everything else 'open'}")
    table = chosen(output) is Format.TABLE
    found = answer["alerts"]
    show_rows(
        [row(one) for one in found] if table else found, output, columns=COLUMNS, spare=("OPENED", "COUNT", "STATE")
    )


def show(alert: Alert, output: options.Output = None) -> None:
    """Show one alert and what to do about it.

    \b
    Examples:
      sluice alerts show 01JCW3H5N0000000000000000A
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("GET", f"/v1/alerts/{quote(alert, safe='')}")
    show_one(answer, output)
    say(f"  next: {answer['action']}")


def resolve(alert: Alert, reason: Why, output: options.Output = None) -> None:
    """End an alert; it opens again only when its pattern was quiet once.

    \b
    Examples:
      sluice alerts resolve 01JCW3H5N0000000000000000A --reason "known: their status page says so"
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("POST", f"/v1/alerts/{quote(alert, safe='')}/resolve", body={"reason": reason})
    show_one(answer, output)
    say(f"{answer['by']} resolved alert {answer['alert']}: {answer['reason']}")


def row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alert as one line of a table."""
    opened = f"{one['opened'][:10]} {one['opened'][11:19]}Z"
    values = (one["alert"], one["kind"], one["state"], opened, one["count"], one["sentence"])
    return dict(zip(COLUMNS, values, strict=True))
