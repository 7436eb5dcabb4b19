"""The door for clients in this process: a request in, a call published and waited for, a response or `Broken` out.

The client's pool timeout is how long a call may wait to start, as it is for a connection; a call that has not started then is
withdrawn. Its read timeout comes on top, for what has. Knows neither httpx nor httpx2.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from connectors.catalog import Catalog
from connectors.matching import Matched, Matcher, Sent, Unmatched
from gateway.app import Gateway
from gateway.entrypoints.api.problems import STATUS
from gateway.flow.echoes import ENGINE
from gateway.flow.status import Crowded, View
from gateway.lanes.checkup import UNANSWERED
from gateway.policy.admission import Refuse
from gateway.ports import Admitted, Duplicate
from gateway.sdk.ending import BROKEN, Broken, Kind, Reply, refusal, reply
from schemas.codec import sha256
from schemas.moment import stamp
from schemas.result import CallStatus
from schemas.tool_call import ToolCallData

log = structlog.get_logger()

ADMIT_WITHIN_S = 5.0
"""How long storing a call may take; beyond it nobody knows whether it was stored."""

FOREVER_S = 10.0 * 86_400
"""How long a client without a timeout waits: no deadline that is set for it is later."""

DOUBTS = 1024
"""Requests with an effect in doubt that are remembered, so that an SDK does not repeat them by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client waits, in seconds; None: for ever."""

    start_s: float | None = None
    """For the first attempt to start: its pool timeout."""
    answer_s: float | None = None
    """For the answer after that: its read timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls through a door, and what of the catalog it may mean."""

    agent: str
    connector: str | None = None
    """Only this connector's operations; None: those of all."""
    connection: str | None = None
    """None: the only one, or `default`."""


class Door:
    """The use-case; as many clients as like may share one."""

    def __init__(self, gateway: Gateway, caller: Caller) -> None:
        self._gateway = gateway
        self._caller = caller
        self._matcher: tuple[Catalog, Matcher] | None = None
        self._doubts: OrderedDict[str, Reply | Broken] = OrderedDict()
        self._behind: set[asyncio.Task[None]] = set()
        gateway.echoes.listening = True

    async def ask(self, sent: Sent, patience: Patience) -> Reply:
        """Make the call that this request is, and return its response; raises `Broken` when there is none."""
        mark = sha256(sent.method, sent.url, sent.body, sent.headers.get("idempotency-key", ""))
        if sent.headers.get("x-stainless-retry-count", "0") != "0" and mark in self._doubts:
            return _again(self._doubts[mark])
        try:
            answer = await self._asked(sent, patience)
        except Broken as broken:
            self._note(mark, broken)
            raise
        self._note(mark, answer)
        return answer

    async def close(self) -> None:
        """Wait until calls whose callers have gone are withdrawn."""
        if self._behind:
            await asyncio.wait(self._behind, timeout=ADMIT_WITHIN_S)

    async def _asked(self, sent: Sent, patience: Patience) -> Reply:
        matched = self._matching().match(sent, max_bytes=self._gateway.settings.max_event_bytes)
        if isinstance(matched, Unmatched):
            # Told here as well: some SDKs do not show the body of an error.
            log.warning("sdk.undeclared", agent=self._caller.agent, reason=matched.message)
            return refusal(400, "sdk.undeclared", matched.message)
        admitting = asyncio.create_task(self._admitted(matched, sent, patience))
        try:
            answer = await asyncio.shield(admitting)
        except asyncio.CancelledError:
            self._after(self._undo(admitting))
            raise
        if isinstance(answer, Refuse):
            return _refused(answer)
        ours = isinstance(answer, Admitted)
        try:
            return await self._waited(answer.call, patience, ours=ours)
        except asyncio.CancelledError:
            if ours:
                self._after(self._withdraw(answer.call))
            raise

    def _matching(self) -> Matcher:
        catalog = self._gateway.catalog()
        if self._matcher is None or self._matcher[0] is not catalog:
            matcher = Matcher(catalog, connector=self._caller.connector, connection=self._caller.connection)
            self._matcher = (catalog, matcher)
        return self._matcher[1]

    async def _admitted(self, matched: Matched, sent: Sent, patience: Patience) -> Admitted | Duplicate | Refuse:
        operation, start_s = matched.operation, patience.start_s
        data = ToolCallData(
            tool=operation.tool,
            arguments=matched.arguments,
            connection=matched.connection,
            deadline=None if start_s is None else stamp(self._gateway.ambient.now() + timedelta(seconds=start_s)),
        )
        key = sent.headers.get((operation.idempotency_header or "").lower()) or sent.headers.get("idempotency-key")
        try:
            async with asyncio.timeout(ADMIT_WITHIN_S):
                return await self._gateway.intake.from_http(
                    data, agent=self._caller.agent, key=key, traceparent=sent.headers.get("traceparent"), engine=ENGINE
                )
        except (*UNANSWERED, TimeoutError):
            message = "The gateway's Redis does not answer; the call may or may not have been stored."
            raise Broken(Kind.CONNECT, message, in_doubt=True) from None

    async def _waited(self, call: str, patience: Patience, *, ours: bool) -> Reply:
        start_s, answer_s = patience.start_s, patience.answer_s
        view = await self._view(call, FOREVER_S if start_s is None else start_s)
        held = ""
        if isinstance(view, CallStatus):
            held = f"{view.hold.detail} {view.hold.action}"
            withdrawn = ours and await self._gateway.status.cancel(call) != "busy"
            view = await self._view(call, 0 if withdrawn or not ours else FOREVER_S if answer_s is None else answer_s)
        if isinstance(view, CallStatus):
            raise Broken(
                Kind.READ_TIMEOUT if view.attempts or view.hold.reason is None else Kind.POOL_TIMEOUT,
                f"Call {call} has not ended in time, and goes on: {view.hold.detail} {view.hold.action}",
                in_doubt=True,
            )
        if view is None:
            return refusal(409, "sdk.forgotten", f"Call {call} has ended, and its answer is no longer kept.", call=call)
        echo = self._gateway.echoes.of(call, view.data["http_status"])
        return reply(view.data, view.attempts, echo, held)

    async def _view(self, call: str, wait_s: float) -> View:
        """Return how the call stands when it ends, at the latest after so long; a call of another agent is none."""
        try:
            view, agent = await self._gateway.status.wait(call, wait_s)
        except Crowded as crowded:
            raise Broken(Kind.POOL_TIMEOUT, f"Call {call} goes on, but {crowded}.", in_doubt=True) from None
        except UNANSWERED:
            message = f"The gateway's Redis does not answer; call {call} goes on when it does."
            raise Broken(Kind.READ, message, in_doubt=True) from None
        return view if agent == self._caller.agent else None

    def _note(self, mark: str, answer: Reply | Broken) -> None:
        if not answer.in_doubt:
            self._doubts.pop(mark, None)
            return
        self._doubts[mark] = answer
        if len(self._doubts) > DOUBTS:
            self._doubts.popitem(last=False)

    def _after(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def _undo(self, admitting: "asyncio.Task[Admitted | Duplicate | Refuse]") -> None:
        try:
            answer = await admitting
        except Broken:
            return
        if isinstance(answer, Admitted):
            await self._withdraw(answer.call)

    async def _withdraw(self, call: str) -> None:
        with contextlib.suppress(*UNANSWERED):  # then its deadline ends it
            await self._gateway.status.cancel(call)


def _again(answer: Reply | Broken) -> Reply:
    if isinstance(answer, Reply):
        return answer
    raise Broken(answer.kind, answer.message, in_doubt=True)


def _refused(refuse: Refuse) -> Reply:
    message = refuse.message
    if refuse.failure in BROKEN:
        raise Broken(BROKEN[refuse.failure], f"The call was not taken: {message}")
    return refusal(STATUS.get(refuse.failure, 422), refuse.failure, message)
