"""`sluice connectors`: what the manifests declare, whether they are right, and where each value comes from. Reads files only."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.entrypoints.cli import options, planners
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_rows, stop

if TYPE_CHECKING:  # the manifest models cost a quarter of a second, which `--help` does not have
    from connectors.catalog import Loaded

Paths = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files or directories [the settings'].")]
Tool = Annotated[str, typer.Argument(help="connector.operation", metavar="TOOL")]


def register(app: typer.Typer) -> None:
    """Add `connectors`."""
    several = options.group(
        "Look at the manifests, check and explain them.",
        "sluice connectors lint",
        "sluice connectors explain crm.contacts.create",
    )
    several.command("ls")(ls)
    several.command()(lint)
    several.command()(planners.check)
    several.command()(explain)
    several.command()(schema)
    app.add_typer(several, name="connectors")


def ls(connectors: options.Connectors = None, output: options.Output = None) -> None:
    """List the tools.

    \b
    Examples:
      sluice connectors ls
      sluice connectors ls --connectors ./manifests -o jsonl
    """
    loaded = _load(connectors)
    catalog = loaded.catalog
    rows = [
        {
            "tool": operation.tool,
            "class": operation.op_class.value,
            "request": f"{operation.method} {operation.path}",
            "timeout_s": operation.timeout_s,
            "connections": ", ".join(
                sorted(one.name for one in catalog.connections.values() if one.connector == operation.connector)
            ),
            "input": operation.input_schema,
        }
        for _, operation in sorted(catalog.operations.items())
    ]
    show_rows(rows, output, columns=("tool", "class", "request", "timeout_s", "connections"))
    if loaded.errors:
        stop(Exit.PARTIAL, f"Errors: {len(loaded.errors)}; files with errors are left out.", "sluice connectors lint")


def lint(paths: Paths = None, output: options.Output = None) -> None:
    """Check manifests.

    Tells errors as file:line:col, and what is declared but would not act as a warning. Exit 1 on errors.

    \b
    Examples:
      sluice connectors lint
      sluice connectors lint ./manifests/crm.yaml -o json
    """
    loaded = _load(paths)
    rows = [
        {
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "severity": problem.severity.value,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in loaded.problems
    ]
    if chosen(output) is Format.TABLE:
        for problem in loaded.problems:
            typer.echo(str(problem))
    else:
        show_rows(rows, output, columns=())
    errors = len(loaded.errors)
    say(f"Tools: {len(loaded.catalog.operations)}, errors: {errors}, warnings: {len(loaded.problems) - errors}.")
    if errors:
        raise typer.Exit(Exit.FAILED)


def explain(tool: Tool, connectors: options.Connectors = None, output: options.Output = None) -> None:
    """Show every value that holds for a tool, and the line it comes from.

    \b
    Example:
      sluice connectors explain crm.contacts.create
    """
    from connectors.manifest.explain import explain as explained  # noqa: PLC0415 - see above
    from connectors.manifest.problem import suggestion  # noqa: PLC0415

    loaded = _load(connectors)
    values = explained(loaded.catalog, tool)
    if not values:
        hint = suggestion(tool, loaded.catalog.operations)
        next_step = "sluice connectors lint" if loaded.errors else "sluice connectors ls"
        stop(Exit.NOT_FOUND, f"There is no tool {tool}{': ' + hint if hint else ''}", next_step)
    show_rows([value._asdict() for value in values], output, columns=("key", "value", "origin"))


def schema() -> None:
    """Print the JSON Schema of manifests, for editors.

    \b
    Example:
      sluice connectors schema > sluice.schema.json
    """
    from connectors.manifest.json_schema import json_schema  # noqa: PLC0415 - see above

    typer.echo(json.dumps(json_schema(), indent=2))


def _load(paths: list[Path] | None) -> "Loaded":
    from connectors.catalog import load  # noqa: PLC0415 - see above

    return load(options.settings(connectors=paths).connectors, os.environ)
