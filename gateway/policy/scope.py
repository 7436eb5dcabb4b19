"""Who may call what: default deny as soon as one agent is declared. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase


def allowed(agent: str, tool: str, scopes: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether `agent` may call `tool`; `scopes` maps each declared agent to its patterns.

    With no agent declared everything is allowed: that is a laptop, and the API is bound to loopback.
    """
    if not scopes:
        return True
    return matches(tool, scopes.get(agent, ()))


def matches(tool: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the shell patterns covers the tool's name, case included."""
    return any(fnmatchcase(tool, pattern) for pattern in patterns)


def agent_of(source: str) -> str:
    """Return the agent a bus event speaks for: what follows `agent/` in its source, else the source itself."""
    return source.removeprefix("agent/")
