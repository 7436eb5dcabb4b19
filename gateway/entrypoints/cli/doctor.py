"""`sluice doctor`: what could be wrong here, each finding with its fix. Looks at everything and changes nothing."""

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, show_rows, stop


def register(app: typer.Typer) -> None:
    """Add `doctor`."""
    app.command()(doctor)


def doctor(
    redis: options.Redis = None,
    bus: options.Bus = None,
    data: options.Data = None,
    connectors: options.Connectors = None,
    host: options.Host = None,
    port: options.Port = None,
    output: options.Output = None,
) -> None:
    """Say what is wrong here and how to mend it.

    Exit 1 when something has to be mended. Secrets are named, never shown.

    \b
    Examples:
      sluice doctor
      sluice doctor -o json
    """
    from gateway.entrypoints.cli.checks import examine  # noqa: PLC0415 - `--help` does not need it

    settings = options.settings(redis=redis, bus=bus, data=data, connectors=connectors, host=host, port=port)
    findings = examine(settings)
    show_rows([finding.row() for finding in findings], output, columns=("status", "check", "detail", "fix"))
    failed = sum(finding.status == "fail" for finding in findings)
    if failed:
        stop(Exit.FAILED, f"{failed} of {len(findings)} checks failed.")
