"""How the gateway tells what it does: structured lines on stderr, without secrets."""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from gateway.policy.visible import visible

HIDDEN: Final = "<secret>"

_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|passw(or)?d|secret|(?<!idempotency_)(?<!idempotency-)token|api[-_]?key|private[-_]?key|^keys?$|credential",
    re.IGNORECASE,
)
_IN_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(api[-_]?key|access_token|refresh_token|client_secret|password)=[^\s&\"']+"), rf"\1={HIDDEN}"),
)
_DEEP = 6

EventDict = MutableMapping[str, Any]


def scrub(_: object, __: str, event: EventDict) -> EventDict:
    """Hide what is named like a secret or looks like one, at any depth; a structlog processor."""
    return {name: HIDDEN if _is_secret(name) else scrubbed(value) for name, value in event.items()}


def scrubbed(value: object, depth: int = 0) -> object:
    """Return `value` with its secrets hidden."""
    match value:
        case str():
            for pattern, replacement in _IN_TEXT:
                value = pattern.sub(replacement, value)
            return value
        case bytes():
            return f"<{len(value)} bytes>"
        case _ if depth >= _DEEP:
            return "<deeper>" if isinstance(value, Mapping | list | tuple) else value
        case Mapping():
            return {
                name: HIDDEN if _is_secret(str(name)) else scrubbed(held, depth + 1) for name, held in value.items()
            }
        case list() | tuple():
            return [scrubbed(held, depth + 1) for held in value]
        case _:
            return value


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _terminal() -> list[structlog.typing.Processor]:
    # Not structlog's own tracebacks: those show the values of variables, and nothing scrubs them.
    plain = structlog.dev.plain_traceback
    return [
        _visible,
        structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ, exception_formatter=plain),
    ]


def _visible(_: object, __: str, event: EventDict) -> EventDict:
    """Write out what would steer the terminal, or look like a line of its own; JSON does that by itself."""
    return {name: _in_line(name, value) if isinstance(value, str) else value for name, value in event.items()}


def _in_line(name: str, text: str) -> str:
    return visible(text) if name in {"exception", "stack"} else visible(text).replace("\n", "\\n")


def configure(level: str = "info", *, pretty: bool | None = None) -> None:
    """Send our lines and those of the libraries to stderr: JSON, or for people when it is a terminal."""
    pretty = sys.stderr.isatty() if pretty is None else pretty
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        # Behind the rendering of exceptions, since their texts may quote anything.
        scrub,
        *(_terminal() if pretty else [structlog.processors.JSONRenderer()]),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        # It tells of every rebalance, partition by partition.
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
