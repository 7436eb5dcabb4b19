"""`sluice connections`: how credentials stand, and setting, checking, authorizing and revoking them. Through the API.

A secret comes from stdin or a prompt and never from an argument: those are seen by every user of the machine.
"""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.entrypoints.cli import connections_add, options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, show_rows, span, stop

Connection = Annotated[str, typer.Argument(help="connector/name, as `ls` shows it.", metavar="CONNECTION")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address, or only print it.")]
Within = Annotated[float, typer.Option("--within", metavar="SECONDS", min=1, help="How long to wait for the consent.")]

COLUMNS = ("CONNECTION", "STATE", "EXPIRES", "AGE", "DETAIL", "NEXT")
CHECK_S = 60.0


def register(app: typer.Typer) -> None:
    """Add `connections`."""
    several = options.group(
        "Look at credentials and renew them.", "sluice connections ls", "sluice connections authorize crm/main"
    )
    several.command()(ls)
    several.command()(connections_add.add)
    several.command("set")(give)
    several.command()(authorize)
    several.command()(check)
    several.command()(revoke)
    app.add_typer(several, name="connections")


def ls(output: options.Output = None) -> None:
    """List connections: the state of the credential, when its token ends, and the next step.

    \b
    Examples:
      sluice connections ls
      sluice connections ls -o jsonl
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    _, answer = client.ask("GET", "/v1/connections")
    found = answer["connections"]
    table = chosen(output) is Format.TABLE
    show_rows([row(one) for one in found] if table else found, output, columns=COLUMNS, spare=("AGE", "EXPIRES"))


def give(connection: Connection, output: options.Output = None) -> None:
    """Keep a refresh token, read from stdin or asked for; it is used once to see that it works.

    \b
    Examples:
      sluice connections set crm/main
      sluice connections set crm/main < refresh-token.txt
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    # A secret is not asked for, nor read, for a connection that is not there.
    client.ask("GET", _path(connection))
    asks = sys.stdin.isatty()
    token = typer.prompt("Refresh token", hide_input=True, err=True) if asks else sys.stdin.read(65_536)
    if not token.strip():
        stop(Exit.USAGE, "There is no token on stdin.", f"sluice connections authorize {connection}")
    _tell(_post(connection, "set", {"refresh_token": token.strip()}), output)


def authorize(
    connection: Connection, browser: Browser = True, within: Within = 300.0, output: options.Output = None
) -> None:
    """Consent in a browser; the vendor sends it back to this machine, and the tokens go to the gateway.

    \b
    Examples:
      sluice connections authorize crm/main
      sluice connections authorize crm/main --no-browser
    """
    from gateway.entrypoints.cli.loopback import Consent  # noqa: PLC0415

    with Consent() as consent:
        asked = {"redirect_uri": consent.redirect_uri, "state": consent.state, "challenge": consent.challenge}
        url = _post(connection, "authorize", asked)["url"]
        say(f"Consent here:\n  {url}")
        if browser:
            typer.launch(url)
        came = consent.wait(within)
    if came is None:
        stop(Exit.FAILED, f"Nobody consented within {within:g} s.", f"sluice connections authorize {connection}")
    if came.code is None:
        stop(Exit.FAILED, f"The vendor sent no code: {came.error}.", f"sluice connections authorize {connection}")
    body = {"code": came.code, "verifier": consent.verifier, "redirect_uri": consent.redirect_uri}
    _tell(_post(connection, "redeem", body), output)


def check(connection: Connection, output: options.Output = None) -> None:
    """Get a new token now, and say what came of it.

    \b
    Examples:
      sluice connections check crm/main
    """
    _tell(_post(connection, "check"), output)


def revoke(connection: Connection, output: options.Output = None) -> None:
    """Forget the tokens; calls of the connection wait until somebody consents again. The vendor is not told.

    \b
    Examples:
      sluice connections revoke crm/main
    """
    answer = _post(connection, "revoke")
    show_one(answer, output, table=row(answer))
    say(f"The tokens of {connection} are forgotten.\n  next: {answer['next']}")


def row(one: dict[str, Any]) -> dict[str, Any]:
    """Return a connection as one line of a table."""
    values = (one["connection"], one["state"], span(one["expires_s"]), span(one["age_s"]), one["detail"], one["next"])
    return dict(zip(COLUMNS, values, strict=True))


def _post(connection: str, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("POST", f"{_path(connection)}/{verb}", body=body, wait_s=CHECK_S)
    return answer


def _path(connection: str) -> str:
    connector, slash, name = connection.partition("/")
    if not (connector and slash and name):
        stop(Exit.USAGE, "A connection is named connector/name.", "sluice connections ls")
    return f"/v1/connections/{quote(connector, safe='')}/{quote(name, safe='')}"


def _tell(answer: dict[str, Any], output: Format | None) -> None:
    """Show what came of it; what did not work is a failure."""
    show_one(answer, output, table=row(answer["connection"]))
    if not answer["worked"]:
        stop(Exit.FAILED, f"There is no token: {answer['detail']}.", answer["connection"]["next"])
    say(f"{answer['connection']['connection']} has a token.")
