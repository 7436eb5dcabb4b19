"""One attempt of one call, stage by stage, from arguments to an `Outcome`.

Never raises for what a vendor or a network does; an exception from here means that the gateway itself is broken.
Cancellation passes through. Every verdict is a value made by a guard or by `classify`; nothing is judged here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from connectors.auth.bearer import Ready, authorised, refused_token, tell
from connectors.auth.token_source import TokenSource
from connectors.breaking.breaker import Open
from connectors.breaking.breakers import Breakers, refused
from connectors.classify import classify, kept
from connectors.contract_guard import ContractGuard
from connectors.contract_policy import apply
from connectors.declared import Connection, Operation
from connectors.egress import allowed
from connectors.exchange import (
    Answered,
    EgressRefused,
    Exchange,
    Lease,
    LeaseLost,
    Refusal,
    RenderedRequest,
    RenderRefused,
    SendPolicy,
    Unavailable,
    Unconfirmed,
)
from connectors.rates.rules import NO_RULES
from connectors.render import render
from connectors.transport import Engine
from schemas.effect import Effect, needs_mark
from schemas.failure import FACTS
from schemas.outcome import Outcome
from schemas.tool_call import Ran, ToolCall

_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What stands between a call and its vendor."""

    breakers: Breakers
    tokens: TokenSource
    contracts: ContractGuard


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The way to a vendor; `clock` gives epoch seconds, `new_span` 16 hex digits."""

    engine: Engine
    guards: Guards
    clock: Callable[[], float]
    new_span: Callable[[], str]
    scrub: Callable[[bytes, tuple[str, ...]], bytes]
    """Takes secrets out of a text."""
    cap_wire_bytes: int
    """Most bytes of an answer's body that are read."""
    cap_decoded_bytes: int
    """Most bytes they may unpack to; a result travels through the queue's memory."""
    answered: Callable[[ToolCall, Answered], None] = lambda _call, _answer: None
    """Is shown every answer, without our secrets; a caller in this process may want more of it than is stored."""

    async def attempt(
        self, call: ToolCall, operation: Operation, connection: Connection | None, lease: Lease
    ) -> Outcome:
        """Attempt `call` once, while `lease` lasts."""
        base_url = (connection.base_url if connection else None) or operation.base_url
        request = self._rendered(call, operation, base_url)
        if not isinstance(request, RenderedRequest):
            return self._classified(request, operation)
        breakers, outcome = self.guards.breakers, None
        breaker = breakers.of(operation.connector, base_url, operation.breaker)
        permit = await breakers.admit(breaker, timeout_s=call.timeout_us / _US)
        if isinstance(permit, Open):
            return refused(permit)
        try:
            outcome = await self._sent(request, call, operation, connection, lease)
        finally:
            # Also when it was cancelled, or was our own mistake: then it is no evidence.
            breakers.settle(permit, outcome)
        if breakers.shut(breaker) and outcome.failure and FACTS[outcome.failure].retryable:
            # The vendor is down, which is not this call's fault: it waits and has its attempt back.
            return msgspec.structs.replace(outcome, spends_attempt=False)
        return outcome

    def judge(self, ran: Ran, operation: Operation) -> Outcome:
        """Judge an answer that came before, as if it came now; nothing is sent, and nothing is learned of the vendor."""
        ending = Answered(
            status=ran.status,
            headers=ran.headers,
            body=ran.body,
            truncated=None,
            http_version="",
            duration_s=0.0,
            bytes_out=0,
        )
        outcome = classify(ending, operation.op_class, NO_RULES, now=self.clock())
        if outcome.failure is None:
            checked = self.guards.contracts.check(operation, ran.status, ran.headers, outcome.result)
            outcome = apply(outcome, checked, operation, kept(ending))
        return msgspec.structs.replace(outcome, effect=Effect.EXECUTED, rates=(), limited=False, spends_attempt=False)

    def _rendered(self, call: ToolCall, operation: Operation, base_url: str) -> RenderedRequest | Refusal:
        rendered = render(call, operation, base_url, self.new_span())
        if isinstance(rendered, RenderRefused):
            return rendered
        refusal = allowed(rendered.url, operation.egress)
        return EgressRefused(refusal) if refusal else rendered

    async def _sent(
        self,
        request: RenderedRequest,
        call: ToolCall,
        operation: Operation,
        connection: Connection | None,
        lease: Lease,
    ) -> Outcome:
        # Only now: a credential is bound to the hosts its connector declares.
        ready = await authorised(self.guards.tokens, request, operation, connection, self.clock())
        if isinstance(ready, Outcome):
            return ready
        if isinstance(ready, Unavailable):
            return self._classified(ready, operation)
        answer: Exchange | None = None
        try:
            if needs_mark(operation.op_class) and (marked := await lease.mark()) != "marked":
                return self._classified(LeaseLost() if marked == "lost" else Unconfirmed(), operation)
            answer = await self.engine.send(ready.request, self._policy(call, operation, lease))
            ending = self._scrubbed(answer, connection, ready)
            if isinstance(ending, Answered):
                self.answered(call, ending)
            return await self._judged(ending, ready, operation, connection)
        finally:
            # Last: until a refusal is known to all, nobody else tries the same token.
            tell(self.guards.tokens, ready, operation, connection, answer)

    async def _judged(
        self, ending: Exchange, ready: Ready, operation: Operation, connection: Connection | None
    ) -> Outcome:
        outcome = self._classified(ending, operation)
        if not isinstance(ending, Answered):
            return outcome
        if outcome.failure is None:
            checked = self.guards.contracts.check(operation, ending.status, ending.headers, outcome.result)
            return apply(outcome, checked, operation, kept(ending))
        return await refused_token(self.guards.tokens, ready, operation, connection, ending) or outcome

    def _classified(self, ending: Exchange | Refusal, operation: Operation) -> Outcome:
        return classify(ending, operation.op_class, operation.rates, now=self.clock())

    def _policy(self, call: ToolCall, operation: Operation, lease: Lease) -> SendPolicy:
        return SendPolicy(
            # The call's own, as accepted: its lease was measured by it.
            timeout_s=call.timeout_us / _US,
            allow_private=operation.egress.allow_private,
            fresh=needs_mark(operation.op_class),
            cap_wire_bytes=self.cap_wire_bytes,
            cap_decoded_bytes=self.cap_decoded_bytes,
            holds=lease.holds,
        )

    def _scrubbed(self, exchange: Exchange, connection: Connection | None, ready: Ready) -> Exchange:
        """Take our own secrets out of an answer that echoes them: from here on it is stored and shown."""
        secrets = (connection.revealing() if connection else ()) + ready.revealing()
        if not secrets or not isinstance(exchange, Answered):
            return exchange
        body, told = self.scrub(exchange.body, secrets), "\n".join(exchange.headers.values()).encode()
        if body == exchange.body and self.scrub(told, secrets) == told:  # as nearly always
            return exchange
        headers = {name: self.scrub(text.encode(), secrets).decode() for name, text in exchange.headers.items()}
        return replace(exchange, headers=headers, body=body)
