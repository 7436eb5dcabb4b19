"""Flags that several commands share, and how flags become settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.entrypoints.cli.output import Exit, Format, stop

if TYPE_CHECKING:  # pydantic costs a tenth of a second, which `--help` does not have
    from gateway.settings import Settings

Redis = Annotated[
    str | None, typer.Option("--redis", metavar="URL", help="Redis of the working state; default: the embedded one.")
]
Bus = Annotated[str | None, typer.Option("--bus", metavar="URL", help="Where events travel; default: the same Redis.")]
Journal = Annotated[
    str | None, typer.Option("--journal", metavar="URL", help="The journal's database; default: a file.")
]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="What is kept on disk; default: ./.sluice.")]
Connectors = Annotated[
    list[Path] | None,
    typer.Option("--connectors", metavar="PATH", help="Manifests; repeatable; default: ./connectors.d."),
]
Host = Annotated[str | None, typer.Option("--host", help="Address of the API; default: 127.0.0.1.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the API; default: 8080.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Worker processes of `up`; default: 1.")]
Output = Annotated[Format | None, typer.Option("--output", "-o", help="Default: table on a terminal, else json.")]

_FIELDS = {"redis": "redis_url", "bus": "bus_url", "journal": "journal_url"}
_FLAGS = {field: flag for flag, field in _FIELDS.items()}


def settings(**flags: object) -> "Settings":
    """Return the settings: file, then environment, then the flags that were given."""
    from pydantic import ValidationError  # noqa: PLC0415 - see above
    from pydantic_settings import SettingsError  # noqa: PLC0415

    from gateway.settings import Settings  # noqa: PLC0415

    given = {_FIELDS.get(name, name): value for name, value in flags.items() if value not in (None, [])}
    try:
        return Settings(**given)  # type: ignore[arg-type] # pydantic judges the values
    except ValidationError as wrong:
        lines = [f"{_where(error['loc'], given)}: {error['msg']}" for error in wrong.errors(include_input=False)]
        stop(Exit.USAGE, "\n".join(lines))
    except (SettingsError, ValueError) as wrong:
        stop(Exit.USAGE, f"sluice.toml or SLUICE_…: {wrong}")


def _where(place: tuple[int | str, ...], given: dict[str, object]) -> str:
    """Name what the person wrote: the flag, else the variable (which the key in sluice.toml resembles)."""
    field = str(place[0]) if place else "settings"
    return f"--{_FLAGS.get(field, field)}" if field in given else f"SLUICE_{field.upper()}"
