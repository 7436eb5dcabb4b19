"""The command line: data on stdout, messages on stderr, exit codes that mean something.

Imports nothing heavy before a command runs, so that `--help` and completion are immediate.
"""

import sys

import typer

from gateway.entrypoints.cli import (
    alerts,
    approvals,
    breakers,
    calls,
    connections,
    connectors,
    contracts,
    dlq,
    doctor,
    lanes,
    planners,
    publish,
    replays,
    roles,
)
from gateway.entrypoints.cli.roles import Role, Roles, lazily

__all__ = ["Role", "Roles", "build", "lazily", "run"]

_HELP = """Calls to third-party APIs for AI agents: paced, guarded, accounted for, and never blindly repeated.

Exit codes: 0 ok · 1 failed · 2 usage · 3 not found · 4 key missing or wrong · 5 unavailable or no go · 6 partial.

\b
  sluice up                               everything on this machine
  sluice call crm.contacts.get -a id=c1   one call and its result
  sluice publish events.jsonl             many calls
  sluice calls ls --since 30m             what happened
  sluice lanes ls                         what waits, and why
  sluice health                           how the vendors are
  sluice preflight crm.contacts.get:200   may this start?
  sluice doctor                           what is wrong, and the fix
"""


def build(given: Roles) -> typer.Typer:
    """Return the application; `given` starts the long-running roles."""
    app = typer.Typer(
        name="sluice", help=_HELP, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
    )
    roles.register(app, given)
    calls.register(app)
    lanes.register(app)
    breakers.register(app)
    planners.register(app)
    publish.register(app)
    connectors.register(app)
    connections.register(app)
    contracts.register(app)
    approvals.register(app)
    alerts.register(app)
    dlq.register(app)
    replays.register(app)
    doctor.register(app)
    return app


def run(given: Roles) -> int:
    """Run the command line and return its exit code."""
    try:
        build(given)()
    except SystemExit as stop:
        return _code(stop)
    return 0


def _code(stop: SystemExit) -> int:
    if isinstance(stop.code, str):
        print(stop.code, file=sys.stderr)  # noqa: T201 - a message is what a text exit code is
        return 1
    return stop.code or 0
