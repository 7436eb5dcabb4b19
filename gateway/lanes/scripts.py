"""The Lua scripts and their header contracts: one verb a file, keys and arguments named, the answer declared."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- (KEYS|ARGV)\[(\d+)\] (\w+)\s+(.*)$")


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
    source = (files("gateway.lanes") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    keys: list[str] = []
    arguments: list[str] = []
    answers = ""
    for line in source.splitlines():
        if found := _HEADER.match(line):
            (keys if found[1] == "KEYS" else arguments).append(found[3])
        elif line.startswith("-- RETURN"):
            answers = line.removeprefix("-- RETURN").strip()
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name=name, source=source, sha=sha, keys=tuple(keys), arguments=tuple(arguments), answers=answers)
