"""The Lua scripts and their header contracts: one verb a file, keys and arguments named, the answer declared.

A line `-- USES a, b` stands for the text of `shared/a.lua` and `shared/b.lua`: what several verbs must do alike is written once.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

_HEADER = re.compile(r"^-- (KEYS|ARGV)\[(\d+)\] (\w+)\s+(.*)$")
_USES = re.compile(r"^-- USES (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One verb: its source, and what its header promises."""

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    answers: str


def names() -> list[str]:
    """List the verbs."""
    folder = files("gateway.lanes") / "lua"
    return sorted(path.name.removesuffix(".lua") for path in folder.iterdir() if path.name.endswith(".lua"))


@cache
def load(name: str) -> Script:
    """Read a script and its header."""
    source = _USES.sub(_shared, _text(f"{name}.lua"))
    keys: list[str] = []
    arguments: list[str] = []
    answers = ""
    for line in _header(source):
        if found := _HEADER.match(line):
            (keys if found[1] == "KEYS" else arguments).append(found[3])
        elif line.startswith("-- RETURN"):
            answers = line.removeprefix("-- RETURN").strip()
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name=name, source=source, sha=sha, keys=tuple(keys), arguments=tuple(arguments), answers=answers)


async def run(redis: Any, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Run a verb; a server that does not know the script is given its text."""
    script = load(name)
    try:
        return await redis.evalsha(script.sha, len(keys), *keys, *arguments)
    except NoScriptError:
        return await redis.eval(script.source, len(keys), *keys, *arguments)


def _header(source: str) -> list[str]:
    """Return the comment at the top; what is indented goes on with the line before."""
    lines: list[str] = []
    for line in source.splitlines():
        if not line.startswith("--"):
            break
        if lines and line.startswith("--   "):
            lines[-1] += f" {line[2:].strip()}"
        else:
            lines.append(line)
    return lines


def _shared(found: re.Match[str]) -> str:
    return "\n".join(_text("shared", f"{name.strip()}.lua") for name in found[1].split(","))


def _text(*path: str) -> str:
    return (files("gateway.lanes") / "lua").joinpath(*path).read_text(encoding="utf-8")
