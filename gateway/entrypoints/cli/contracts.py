"""`sluice contracts`: what answers are promised to be, how they differ, and what is decided about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, show_rows, stop

Tool = Annotated[str, typer.Argument(help="A tool: connector.operation.", metavar="TOOL")]
Mark = Annotated[str, typer.Argument(help="The finding's fingerprint, or `all` that are open.", metavar="FINGERPRINT")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the decision.")]
Only = Annotated[str | None, typer.Option("--connector", help="Only the contracts of this connector.")]
Old = Annotated[Path, typer.Argument(help="A file with the old JSON Schema.", metavar="OLD")]
New = Annotated[Path, typer.Argument(help="A file with the new JSON Schema; with --answer an answer.", metavar="NEW")]
Answer = Annotated[bool, typer.Option("--answer", help="NEW is an answer, held against the schema.")]

COLUMNS = ("TOOL", "ON BREAKING", "BREAKING", "RISKY", "SEMANTIC", "COMPATIBLE", "HELD", "WORST")
FINDINGS = ("FINGERPRINT", "LEVEL", "STATE", "COUNT", "WHAT")


def register(app: typer.Typer) -> None:
    """Add `contracts`."""
    several = options.group(
        "Look at contracts and their findings, accept and reject.",
        "sluice contracts ls",
        "sluice contracts show crm.contacts.create",
    )
    for command in (ls, show, diff, accept, reject):
        several.command()(command)
    app.add_typer(several, name="contracts")


def ls(connector: Only = None, output: options.Output = None) -> None:
    """List the contracts, those with the worst open finding first.

    \b
    Examples:
      sluice contracts ls
      sluice contracts ls --connector crm -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    query = f"?{urlencode({'connector': connector})}" if connector is not None else ""
    _, answer = client.ask("GET", f"/v1/contracts{query}")
    found = answer["contracts"]
    table = chosen(output) is Format.TABLE
    show_rows(
        [row(one) for one in found] if table else found,
        output,
        columns=COLUMNS,
        spare=("COMPATIBLE", "SEMANTIC", "ON BREAKING", "RISKY"),
    )


def show(tool: Tool, output: options.Output = None) -> None:
    """Show one contract: its findings in words, and what to do about each.

    \b
    Examples:
      sluice contracts show crm.contacts.get
      sluice contracts show crm.contacts.get -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, answer = client.ask("GET", f"/v1/contracts/{quote(tool, safe='')}")
    short = {name: answer[name] for name in ("tool", "on_breaking", "declared", "version", "held")}
    show_one(answer, output, table=short)
    if chosen(output) is not Format.TABLE:
        return
    if answer["findings"]:
        typer.echo("")
        show_rows([finding_row(one) for one in answer["findings"]], output, columns=FINDINGS, spare=("COUNT",))
    for one in answer["findings"]:
        if one["state"] == "open":
            say(f"{one['fingerprint']}: {one['action']}")


def diff(old: Old, new: New, answer: Answer = False, output: options.Output = None) -> None:
    """Compare two schemas of an answer, or a schema and an answer, as somebody who reads the answers; exit code 1 if it breaks.

    \b
    Examples:
      sluice contracts diff contact-v1.json contact-v2.json
      sluice contracts diff contact-v1.json answer.json --answer
    """
    found = compared(_read(old), _read(new), answer)
    rows = [one if chosen(output) is not Format.TABLE else diff_row(one) for one in found]
    show_rows(rows, output, columns=("LEVEL", "KIND", "WHAT"))
    if any(one["level"] == "breaking" for one in found):
        stop(Exit.FAILED, "Whoever reads the old answers cannot read the new ones.")


def accept(tool: Tool, fingerprint: Mark, reason: Reason, output: options.Output = None) -> None:
    """Make what was seen lawful: such answers are right from now on, and calls that were held for it go on.

    \b
    Examples:
      sluice contracts accept crm.contacts.get v1:1f2e3d4c5b6a --reason "announced in their changelog"
      sluice contracts accept crm.contacts.get all --reason "new API version"
    """
    judge("accept", tool, fingerprint, reason, output)


def reject(tool: Tool, fingerprint: Mark, reason: Reason, output: options.Output = None) -> None:
    """Keep what was seen unlawful, and remember that somebody looked.

    \b
    Examples:
      sluice contracts reject crm.contacts.get v1:1f2e3d4c5b6a --reason "their bug, ticket 4711"
    """
    judge("reject", tool, fingerprint, reason, output)


def judge(verb: str, tool: str, fingerprint: str, reason: str, output: Format | None) -> None:
    """Decide through the API, and say what it did."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    body = {"fingerprint": fingerprint, "reason": reason}
    _, answer = client.ask("POST", f"/v1/contracts/{quote(tool, safe='')}/{verb}", body=body)
    short = {name: answer[name] for name in ("tool", "verdict", "version")}
    show_one(answer, output, table=short | {"findings": len(answer["findings"])})
    for one in answer["findings"]:
        say(f"{answer['verdict']}: {one['sentence']}")
    if answer["opened"]:
        say(f"The calls of {answer['tool']} that were held go on.")


def compared(old: Any, new: Any, answer: bool) -> list[dict[str, Any]]:
    """Return the differences as findings without a tool."""
    from connectors.arguments import SchemaError  # noqa: PLC0415 - `--help` does not need it
    from connectors.contract_guard import Contract  # noqa: PLC0415
    from schemas.contracts.compare import compare  # noqa: PLC0415
    from schemas.contracts.finding import finding, worst_first  # noqa: PLC0415
    from schemas.contracts.shape import plain_null  # noqa: PLC0415

    if not isinstance(old, Mapping) or not (answer or isinstance(new, Mapping)):
        stop(Exit.USAGE, "A JSON Schema is an object.")
    try:
        contract = Contract("", old)
        if answer:
            found = list(contract.check(200, {}, new).findings)
        else:
            Contract("", new)
            found = sorted((finding(one, "") for one in compare(plain_null(old), plain_null(new))), key=worst_first)
    except SchemaError as error:
        stop(Exit.USAGE, f"That is not a usable JSON Schema: {error}")
    return [{name: getattr(one, name) for name in SHOWN} for one in found]


SHOWN = ("level", "kind", "pointer", "before", "after", "sentence")


def row(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract as one line of a table."""
    sums = [contract["open"].get(level, 0) or None for level in ("breaking", "risky", "semantic", "compatible")]
    held = "yes" if contract["held"] else None
    return dict(zip(COLUMNS, (contract["tool"], contract["on_breaking"], *sums, held, contract["worst"]), strict=True))


def finding_row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding as one line of a table."""
    values = (one["fingerprint"], one["level"], one["state"], one["count"], one["sentence"])
    return dict(zip(FINDINGS, values, strict=True))


def diff_row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a difference as one line of a table."""
    return {"LEVEL": one["level"], "KIND": one["kind"], "WHAT": one["sentence"]}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        stop(Exit.NOT_FOUND, f"{path}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        stop(Exit.USAGE, f"{path}: not JSON: {error}")
