"""`sluice connectors`: what the manifests declare, whether they are right, and where each value comes from.

`ls` and `explain` ask the gateway that runs, which may have other manifests than this directory; files that are named are read instead.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

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
    """List the tools of the running gateway; those of the files where it does not answer, or where files are named.

    Files are named by --connectors, SLUICE_CONNECTORS or sluice.toml.

    \b
    Examples:
      sluice connectors ls
      sluice connectors ls --connectors ./manifests -o jsonl
    """
    served = _served(connectors)
    loaded = _load(connectors) if served is None else None
    rows = _declared(loaded) if loaded is not None else [_row(tool) for tool in served or []]
    show_rows(rows, output, columns=("tool", "class", "request", "timeout_s", "connections"))
    if loaded is not None and loaded.errors:
        stop(Exit.PARTIAL, _errors(loaded), "sluice connectors lint")


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

    Asks the running gateway, or reads files, as `ls` does; an Agent is shown what the tool takes, and not the rest.

    \b
    Example:
      sluice connectors explain crm.contacts.create
    """
    from connectors.manifest.explain import explain as explained  # noqa: PLC0415 - see above
    from connectors.manifest.problem import suggestion  # noqa: PLC0415

    served, rows = _served(connectors, tool=tool, explain="true"), list[dict[str, Any]]()
    if served is not None:
        rows = _shown(served[0]) if served else []
        known, errors = [] if served else [one["tool"] for one in _served(connectors) or []], ""
    else:
        loaded = _load(connectors)
        rows = [value._asdict() for value in explained(loaded.catalog, tool)]
        known, errors = list(loaded.catalog.operations), _errors(loaded)
    if not rows:
        hint = suggestion(tool, known)
        next_step = "sluice connectors lint" if errors else "sluice connectors ls"
        lines = [f"There is no tool {tool}{': ' + hint if hint else ''}", errors]
        stop(Exit.NOT_FOUND, "\n".join(filter(None, lines)), next_step)
    show_rows(rows, output, columns=("key", "value", "origin"))


def schema() -> None:
    """Print the JSON Schema of manifests, for editors.

    \b
    Example:
      sluice connectors schema > sluice.schema.json
    """
    from connectors.manifest.json_schema import json_schema  # noqa: PLC0415 - see above

    typer.echo(json.dumps(json_schema(), indent=2))


def _served(paths: list[Path] | None, **query: str) -> list[dict[str, Any]] | None:
    """Return the tools as the running gateway tells them; None where files were named, or where none tells."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    settings = options.settings(connectors=paths)
    if "connectors" in settings.model_fields_set:
        return None
    url = client.base_url()
    answer = client.maybe("GET", f"/v1/connectors?{urlencode(query)}", headers={})
    tools = answer.get("tools") if answer else None
    if isinstance(tools, list):
        return tools
    say(f"No gateway tells its tools at {url}; these are of {', '.join(map(str, settings.connectors))}.")
    return None


def _declared(loaded: "Loaded") -> list[dict[str, Any]]:
    catalog = loaded.catalog
    return [
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


def _row(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool of the gateway as one of the files is shown."""
    return {
        "tool": tool["tool"],
        "class": tool["class"],
        "request": f"{tool['method']} {tool['path']}",
        "timeout_s": tool["timeout_s"],
        "connections": ", ".join(tool["connections"]),
        "input": tool["input"],
    }


def _shown(tool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the gateway tells of a tool, value by value."""
    if "values" in tool:
        return list(tool["values"])
    texts = {name: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for name, one in tool.items()}
    return [{"key": name, "value": text, "origin": "the gateway"} for name, text in texts.items()]


def _errors(loaded: "Loaded") -> str:
    """Tell the first error of the files and their number; nothing where there is none."""
    count = len(loaded.errors)
    return f"{loaded.errors[0]}\nErrors: {count}; files with errors are left out." if count else ""


def _load(paths: list[Path] | None) -> "Loaded":
    from connectors.catalog import load  # noqa: PLC0415 - see above

    return load(options.settings(connectors=paths).connectors, os.environ)
