"""What the documents take from the code: tables and lists between two marks. `python -m tests.architecture.documents` writes them anew.

A block is a function of the code alone, so a test can hold the file against it. It never touches a line outside the marks.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic_core import PydanticUndefined

from gateway import telemetry
from gateway.entrypoints import cli
from gateway.settings import Settings
from schemas.failure import FACTS
from schemas.lifecycle import TERMINAL, TRANSITIONS

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"\bsluice((?: [a-z]+)+)")


def documents() -> list[Path]:
    """List every document, the ones at the top first."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def states() -> str:
    """Render every state and where it may go."""
    rows = (
        [f"`{state}`", "terminal" if state in TERMINAL else "live", ", ".join(f"`{after}`" for after in sorted(afters))]
        for state, afters in TRANSITIONS.items()
    )
    return table(("state", "kind", "may become"), rows)


def diagram() -> str:
    """Render the same as a picture."""
    arrows = [f"    {before} --> {after}" for before, afters in TRANSITIONS.items() for after in sorted(afters)]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> pending", *arrows, "```"])


def failures() -> str:
    """Render the closed taxonomy with its facts."""
    headings = ("class", "effect it proves", "may be tried again", "whose fault", "counts for the breaker", "next step")
    rows = (
        [
            f"`{failure}`",
            f"`{facts.effect}`",
            _yes(facts.retryable),
            facts.blame,
            _yes(facts.trips_breaker),
            facts.action,
        ]
        for failure, facts in FACTS.items()
    )
    return table(headings, rows)


def missing_commands() -> str:
    """List the commands that a next step names and this version does not have."""
    return ", ".join(f"`sluice {name}`" for name in sorted(unbuilt_commands())) or "none"


def unbuilt_commands() -> set[str]:
    """Return them as words after `sluice`."""
    named = {words.strip() for facts in FACTS.values() for words in COMMAND.findall(facts.action)}
    return {words for words in named if not exists(words.split())}


def settings() -> str:
    """Render every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "unset" if default is None or default is PydanticUndefined else _shown(default)
        rows.append([f"`SLUICE_{name.upper()}`", f"`{name}`", shown, field.description or ""])
    return table(("variable", "key in `sluice.toml`", "default", "meaning"), rows)


def metrics() -> str:
    """Render every metric."""
    rows = (
        [f"`{one.name}`", ", ".join(f"`{label}`" for label in one.labels) or "none", one.help]
        for one in telemetry.NAMES
    )
    return table(("metric", "labels", "meaning"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "diagram": diagram,
    "failures": failures,
    "metrics": metrics,
    "missing commands": missing_commands,
    "settings": settings,
    "states": states,
}
MARKED = re.compile(r"(?<=<!-- from code: )([a-z ]+)( -->\n)(.*?)(?=\n<!-- end -->)", re.DOTALL)


def root() -> Any:
    """Return the command line as it is."""

    def role(_: Settings) -> int:
        return 0

    return typer.main.get_command(cli.build(cli.Roles(up=role, worker=role, api=role, journal=role)))


def exists(words: Sequence[str]) -> bool:
    """Tell whether `sluice` has this command; words behind a command are its arguments."""
    command = root()
    for word in words:
        commands = getattr(command, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        command = commands[word]
    return True


def with_blocks(text: str) -> str:
    """Return a document with every block as the code has it now."""
    return MARKED.sub(lambda found: found[1] + found[2] + BLOCKS[found[1]](), text)


def _shown(default: object) -> str:
    if isinstance(default, list):
        default = ":".join(map(str, default))
    return f"`{default}`" if str(default) else "empty"


def _yes(value: bool) -> str:  # noqa: FBT001 - a cell
    return "yes" if value else "no"


if __name__ == "__main__":
    for path in documents():
        path.write_text(with_blocks(path.read_text(encoding="utf-8")), encoding="utf-8")
