"""The commands that run until they are stopped: everything at once, or one role of it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from gateway.entrypoints.cli import options

if TYPE_CHECKING:  # pydantic costs a tenth of a second, which `--help` does not have
    from gateway.settings import Settings

Role = Callable[["Settings"], int]
"""Runs until it is stopped and returns the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """How to run each role; the composition root knows."""

    up: Role
    worker: Role
    api: Role
    journal: Role


def lazily(module: str, name: str) -> Role:
    """Return a role that imports its module when it runs."""

    def run(settings: "Settings") -> int:
        role: Any = getattr(importlib.import_module(module), name)
        return int(role(settings))

    return run


_UP = """Run everything on this machine: embedded Redis, API, workers, journal.

\b
Examples:
  sluice up
  sluice up --connectors ./manifests --workers 2
  sluice up --redis redis://redis:6379/0 --port 9000
"""
_WORKER = """Run one worker: it takes events in, claims calls, delivers them.

\b
Example:
  sluice worker --redis redis://redis:6379/0 --data /var/lib/sluice
"""
_JOURNAL = """Run the journal: it writes what happens into a database, so that it can be asked for.

It makes and migrates its tables by itself. Several may run; each entry is written once.

\b
Examples:
  sluice journal --redis redis://redis:6379/0
  sluice journal --journal postgresql://sluice@db/sluice
"""
_API = """Run the HTTP API.

\b
Example:
  sluice api --redis redis://redis:6379/0 --host 0.0.0.0
"""


def register(app: typer.Typer, given: Roles) -> None:
    """Add `up`, `worker`, `api` and `journal`; they take the same flags."""
    all_roles = (
        ("up", given.up, _UP),
        ("worker", given.worker, _WORKER),
        ("api", given.api, _API),
        ("journal", given.journal, _JOURNAL),
    )
    for name, role, told in all_roles:
        app.command(name, help=told)(_command(role))


def _command(role: Role) -> Callable[..., None]:
    def command(
        redis: options.Redis = None,
        bus: options.Bus = None,
        journal: options.Journal = None,
        data: options.Data = None,
        connectors: options.Connectors = None,
        host: options.Host = None,
        port: options.Port = None,
        workers: options.Workers = None,
    ) -> None:
        flags = {"redis": redis, "bus": bus, "journal": journal, "data": data, "connectors": connectors}
        raise typer.Exit(role(options.settings(**flags, host=host, port=port, workers=workers)))

    return command
