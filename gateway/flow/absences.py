"""Calls whose manifest this process has not loaded: they go back to wait for who has it, or for one that can be read again.

A mistake in a manifest and a restart must not end what waits, nor must a worker of another version end the calls of its neighbours.
"""

from collections.abc import Callable

import msgspec
import structlog

from connectors.catalog import Catalog, Unknown
from gateway.flow import settlements
from gateway.ports import Ambient, Claim, Settlement
from schemas.tool_call import ToolCall

log = structlog.get_logger()

SHORTEST_WAIT_US, LONGEST_WAIT_US = 1_000_000, 60_000_000
"""Within these it waits for an eighth of its age before it is looked at again."""

TELL_EVERY_S = 60.0


class Absences:
    """What is not there, of one process."""

    def __init__(self, catalog: Callable[[], Catalog], ambient: Ambient) -> None:
        """`catalog` is asked for each call."""
        self._catalog = catalog
        self._ambient = ambient
        self._told_s: dict[str, float] = {}

    def given_back(self, claim: Claim, call: ToolCall, now_us: int) -> Settlement | None:
        """Return what gives a claim back for a while; None where all is there, or where the deadline has passed."""
        missing = self._missing(call)
        if missing is None or max(now_us, claim.claimed_us) > call.deadline_us:
            return None
        self._tell(missing, call)
        wait_us = min(LONGEST_WAIT_US, max(SHORTEST_WAIT_US, (now_us - call.accepted_us) // 8))
        due_us = now_us + int(wait_us * self._ambient.uniform(0.75, 1.25))
        return msgspec.structs.replace(settlements.give_back(claim), due_us=due_us)

    def _missing(self, call: ToolCall) -> str | None:
        catalog = self._catalog()
        operation = catalog.operation(call.tool)
        if operation is None:
            return f"tool {call.tool}"
        judged = call.replayed is not None and call.replayed.ran is not None
        if not judged and isinstance(catalog.connection_for(operation, call.connection), Unknown):
            return f"connection {call.connector}/{call.connection or 'default'}"
        return None

    def _tell(self, missing: str, call: ToolCall) -> None:
        now_s = self._ambient.monotonic()
        if now_s - self._told_s.get(missing, -TELL_EVERY_S) >= TELL_EVERY_S:
            self._told_s[missing] = now_s
            log.warning("call.not_loaded", missing=missing, call=call.id, action="sluice connectors lint")
