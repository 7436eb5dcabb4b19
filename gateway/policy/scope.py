"""Who may call what: default deny as soon as one agent is declared. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase


def allowed(agent: str, tool: str, scopes: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether `agent` may call `tool`; `scopes` maps each declared agent to its patterns.

    With no agent declared everything is allowed: that is a laptop, and the API is bound to loopback.
    """
    if not scopes:
        return True
    return matches(tool, scopes.get(agent, ()))


def nearest(agent: str, tool: str, known: Iterable[str], scopes: Mapping[str, Sequence[str]]) -> str | None:
    """Return the name nearest to one that nobody declared, of those `agent` may call: others are not its to know."""
    near = get_close_matches(tool, [one for one in known if allowed(agent, one, scopes)], n=1)
    return near[0] if near else None


def matches(tool: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the shell patterns covers the tool's name, case included."""
    return any(fnmatchcase(tool, pattern) for pattern in patterns)


def agent_of(source: str) -> str:
    """Return the agent a bus event speaks for: what follows `agent/` in its source, else the source itself."""
    return source.removeprefix("agent/")
