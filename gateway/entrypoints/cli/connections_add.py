"""`sluice connections add`: a Connection is written as a manifest, judged with all the others, and kept only when it is right.

What is written names where a secret is and never the secret itself.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, say, stop

Added = Annotated[str, typer.Argument(help="connector/name", metavar="CONNECTION")]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", metavar="NAME=REFERENCE", help="Where a secret is: ${env:X} or ${file:/path}; repeatable."
    ),
]
Base = Annotated[str | None, typer.Option("--base-url", metavar="URL", help="Replaces the connector's.")]
Into = Annotated[
    Path | None, typer.Option("--into", metavar="DIR", help="Where to write; default: the first of the manifests'.")
]

_REFERENCE = re.compile(r"\$\{(env|file|keyring):[^{}]+\}")
_NAMED = re.compile(r"([a-z0-9][a-z0-9_-]*)/([a-z0-9][a-z0-9_.-]*)", re.IGNORECASE)


def add(
    connection: Added,
    secret: Secrets = None,
    base_url: Base = None,
    into: Into = None,
    connectors: options.Connectors = None,
) -> None:
    """Declare a connection: write its manifest, and check it with all the others. Secrets are named, never given.

    The gateway reads it at its next start.

    \b
    Examples:
      sluice connections add crm/main --secret 'token=${env:CRM_TOKEN}'
      sluice connections add crm/eu --base-url https://eu.crm.example.com
    """
    named = _NAMED.fullmatch(connection)
    if named is None:
        stop(Exit.USAGE, f"{connection!r} is not connector/name.", "sluice connections add --help")
    paths = options.settings(connectors=connectors).connectors
    folder = into or next((path for path in paths if not path.is_file()), Path("connectors.d"))
    path = folder / f"{named[1]}-{named[2]}.yaml"
    _write(path, manifest(named[1], named[2], base_url, _secrets(secret or [])))
    _judge(path, paths if folder in paths else [*paths, path])
    say(f"{path} declares {connection}. Start the gateway again, since manifests are read at the start.")
    say(f"  next: sluice connections check {connection}")


def manifest(connector: str, name: str, base_url: str | None, secrets: dict[str, str]) -> str:
    """Return the document."""
    lines = ["apiVersion: sluice/v1", "kind: Connection"]
    lines.append(f"metadata: {{name: {json.dumps(name)}, connector: {json.dumps(connector)}}}")
    if base_url is not None:
        lines.append(f"base_url: {json.dumps(base_url)}")
    if secrets:
        lines.append("secrets:")
        lines += [f"  {key}: {json.dumps(reference)}" for key, reference in secrets.items()]
    return "\n".join(lines) + "\n"


def _secrets(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, one in enumerate(given, start=1):
        name, _, reference = one.partition("=")
        if not re.fullmatch(r"\w+", name) or not _REFERENCE.fullmatch(reference):
            # Never what was given: it may be the secret.
            stop(
                Exit.USAGE,
                f"--secret number {number} is not NAME=REFERENCE: name where it is, as token='${{env:CRM_TOKEN}}'.",
                "sluice connections add --help",
            )
        found[name] = reference
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        stop(Exit.FAILED, f"{path} exists already.", f"sluice connectors lint {path}")


def _judge(path: Path, paths: list[Path]) -> None:
    """Take the file away again when it is wrong."""
    from connectors.catalog import load  # noqa: PLC0415 - `--help` does not need it

    loaded = load(paths, os.environ)
    mine = [problem for problem in loaded.problems if Path(problem.file) == path]
    for problem in mine:
        say(str(problem))
    if any(problem in loaded.errors for problem in mine):
        path.unlink()
        stop(Exit.USAGE, "Nothing was kept.", "sluice connectors ls")
