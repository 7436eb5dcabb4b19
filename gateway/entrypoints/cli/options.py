"""Flags that several commands share, and how flags become settings."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.entrypoints.cli.output import Exit, Format, asked, stop

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
Output = Annotated[
    Format | None, typer.Option("--output", "-o", callback=asked, help="Default: table on a terminal, else json.")
]

_FIELDS = {"redis": "redis_url", "bus": "bus_url", "journal": "journal_url"}
_FLAGS = {field: flag for flag, field in _FIELDS.items()}


def group(what: str, *examples: str) -> typer.Typer:
    """Return a command that has commands, with examples in its help."""
    shown = "\n".join(f"  {one}" for one in examples)
    return typer.Typer(help=f"{what}\n\n\b\nExamples:\n{shown}\n", no_args_is_help=True)


def settings(**flags: object) -> "Settings":
    """Return the settings: file, then environment, then the flags that were given."""
    from pydantic import ValidationError  # noqa: PLC0415 - see above
    from pydantic_settings import SettingsError  # noqa: PLC0415

    from gateway.settings import Settings  # noqa: PLC0415

    given = {_FIELDS.get(name, name): value for name, value in flags.items() if value not in (None, [])}
    try:
        return Settings(**given)  # type: ignore[arg-type] # pydantic judges the values
    except ValidationError as wrong:
        lines = [_line(error["type"], error["loc"], error["msg"], given) for error in wrong.errors(include_input=False)]
        stop(Exit.USAGE, "\n".join(lines))
    except (SettingsError, ValueError) as wrong:
        stop(Exit.USAGE, f"sluice.toml or SLUICE_…: {wrong}")


def _line(kind: str, place: tuple[int | str, ...], words: str, given: dict[str, object]) -> str:
    from gateway.settings import Settings  # noqa: PLC0415 - see above

    if kind != "extra_forbidden":
        return f"{_where(place, given)}: {words}"
    return f"sluice.toml: there is no setting {place[0]!r}{meant(str(place[0]), Settings.model_fields)}"


def meant(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` where one name is near."""
    near = get_close_matches(name[:64], list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else "; see docs/settings.md"


def _where(place: tuple[int | str, ...], given: dict[str, object]) -> str:
    """Name what the person wrote: the flag, else the variable (which the key in sluice.toml resembles)."""
    field = str(place[0]) if place else "settings"
    return f"--{_FLAGS.get(field, field)}" if field in given else f"SLUICE_{field.upper()}"
