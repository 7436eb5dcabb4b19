"""One attempt of one call, stage by stage, from arguments to an `Outcome`.

Never raises for what a vendor or a network does; an exception from here means that the gateway itself is broken.
Cancellation passes through. Every verdict is a value made by `classify`; nothing is judged here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from connectors.classify import classify
from connectors.credentials import authorise
from connectors.declared import Connection, Operation
from connectors.egress import allowed
from connectors.exchange import (
    Answered,
    EgressRefused,
    Exchange,
    Lease,
    LeaseLost,
    Refusal,
    RenderRefused,
    SendPolicy,
    Unavailable,
)
from connectors.render import render
from connectors.transport import Engine
from schemas.effect import needs_mark
from schemas.outcome import Outcome
from schemas.tool_call import ToolCall

_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The way to a vendor; `clock` gives epoch seconds, `new_span` 16 hex digits."""

    engine: Engine
    clock: Callable[[], float]
    new_span: Callable[[], str]
    scrub: Callable[[bytes, tuple[str, ...]], bytes]
    """Takes secrets out of a text."""
    cap_wire_bytes: int
    """Most bytes of an answer's body that are read."""
    cap_decoded_bytes: int
    """Most bytes they may unpack to; a result travels through the queue's memory."""

    async def attempt(
        self,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        lease: Lease,
    ) -> Outcome:
        """Attempt `call` once, while `lease` lasts."""
        ending = await self._stages(call, operation, connection, lease)
        return classify(ending, operation.op_class, operation.rates, now=self.clock())

    async def _stages(
        self,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        lease: Lease,
    ) -> Exchange | Refusal:
        if operation.unavailable:
            return Unavailable(operation.unavailable)
        base_url = (connection.base_url if connection else None) or operation.base_url
        rendered = render(call, operation, base_url, self.new_span())
        if isinstance(rendered, RenderRefused):
            return rendered
        if refusal := allowed(rendered.url, operation.egress):
            return EgressRefused(refusal)
        # Only now: a credential is bound to the hosts its connector declares.
        ready = authorise(rendered, operation.auth, connection)
        if isinstance(ready, Unavailable):
            return ready
        marked = needs_mark(operation.op_class)
        if marked and not await lease.mark():
            return LeaseLost()
        policy = SendPolicy(
            # The call's own, as accepted: its lease was measured by it.
            timeout_s=call.timeout_us / _US,
            allow_private=operation.egress.allow_private,
            fresh=marked,
            cap_wire_bytes=self.cap_wire_bytes,
            cap_decoded_bytes=self.cap_decoded_bytes,
            holds=lease.holds,
        )
        return self._scrubbed(await self.engine.send(ready, policy), connection)

    def _scrubbed(self, exchange: Exchange, connection: Connection | None) -> Exchange:
        """Take our own secrets out of an answer that echoes them: from here on it is stored and shown."""
        if connection is None or not connection.secrets or not isinstance(exchange, Answered):
            return exchange
        secrets = connection.revealing()
        headers = {name: self.scrub(text.encode(), secrets).decode() for name, text in exchange.headers.items()}
        return replace(exchange, headers=headers, body=self.scrub(exchange.body, secrets))
