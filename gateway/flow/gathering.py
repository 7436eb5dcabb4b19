"""Gathers what is known of lanes: from breakers, tokens, contracts, gates, limits, the queue, and what calls have shown.

Only looks, but for two things that are asked for by name: a new token, where the present one will not last, and a connection to a host.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from connectors.auth.found import Found, Waiting
from connectors.auth.freshness import SHUT, TokenState
from connectors.auth.refresher import endpoint
from connectors.auth.token_source import TokenSource, credential
from connectors.auth.token_store import AccessToken
from connectors.breaking.breakers import key_of, origin_of
from connectors.breaking.standing import NEW
from connectors.breaking.store import StoreAwayError
from connectors.breaking.window import Counts
from connectors.catalog import Catalog
from connectors.declared import Connection, Egress, Operation
from connectors.reach import Reached
from gateway.flow.breaker_control import BreakerControl, BreakerState
from gateway.flow.contract_control import ContractControl
from gateway.flow.holds import gate_target
from gateway.policy.checks import tested_lately
from gateway.policy.evidence import Evidence
from gateway.policy.facts import LaneFacts, Room, Shut, Token
from gateway.policy.makespan import Supply
from gateway.ports import Closing, LaneState, Load
from schemas.contracts.sighting import SeenFinding
from schemas.lifecycle import HoldReason

Pair = tuple[Operation, Connection | None]

SURVEYED = 64
"""Lanes that are examined in one step: more would hold Redis too long."""


LOOK_S = 4.0
"""How long a look may take: a Redis that hangs would be waited for with each thing that is asked of it."""


class Unanswered(Exception):  # noqa: N818 - it names a situation, not an error of ours
    """The queue hangs."""


class Queue(Protocol):
    """What is asked of the lanes."""

    async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
        """Look at lanes."""


class Above(Protocol):
    """What is asked of the queue as a whole."""

    async def load(self) -> Load:
        """Read the sums."""

    async def closed(self) -> list[Closing]:
        """List what is closed now."""


class Memory(Protocol):
    """What calls have shown, and how limits stand."""

    async def seen(self, lanes: Sequence[str]) -> dict[str, Evidence]:
        """Return the evidence of each lane."""

    async def supplies(self, limits: Sequence[Supply]) -> list[Supply]:
        """Return limits as they stand now."""

    async def live(self, lanes: Sequence[str]) -> list[int]:
        """Count the calls of each lane that have not ended."""

    async def may_probe(self, origin: str, every_s: float) -> bool:
        """Take the fleet's one turn to probe an origin."""


class Doors(Protocol):
    """What can be reached."""

    async def look(self, url: str, egress: Egress) -> tuple[Reached, float]:
        """Return whether an origin can be reached, and how old that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where evidence comes from."""

    catalog: Callable[[], Catalog]
    breakers: BreakerControl
    tokens: TokenSource
    contracts: ContractControl
    queue: Queue
    above: Above
    memory: Memory
    doors: Doors
    workers: Callable[[], Awaitable[bool]]
    """Whether any worker gave a sign of life."""
    queue_limit: int
    queue_bytes: int


class Gathering:
    """One process's; who asks at once for the test of one credential shares it."""

    def __init__(self, sources: Sources) -> None:
        """Join the sources."""
        self.sources = sources
        self._tests: dict[str, asyncio.Task[Found]] = {}

    async def look(self, pairs: Sequence[Pair], *, whole: bool = True) -> list[LaneFacts]:
        """Look at lanes, without `whole` for somebody who sees no sums; of tokens and hosts nothing is said yet.

        Raises what Redis does when it is away, and `Unanswered` when it hangs.
        """
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._look(pairs, whole=whole)
        except TimeoutError:
            raise Unanswered(f"nothing was answered within {LOOK_S:g} s") from None

    async def _look(self, pairs: Sequence[Pair], *, whole: bool) -> list[LaneFacts]:
        sources = self.sources
        lanes = list(dict.fromkeys(lane_of(*pair) for pair in pairs))
        now_us, states = await self._states(lanes)
        seen, closed = await sources.memory.seen(lanes), await sources.above.closed()
        load, workers = await sources.above.load(), await sources.workers()
        breakers, findings = await self._breakers(pairs), await self._findings(pairs)
        facts = []
        for operation, connection in pairs:
            state, base_url = states[lane_of(operation, connection)], base_url_of(operation, connection)
            breaker = breakers.get(key_of(operation.connector, base_url))
            bound = min(sources.queue_limit, operation.queue_limit or sources.queue_limit)
            facts.append(
                LaneFacts(
                    operation=operation,
                    connection=connection,
                    origin=origin_of(base_url),
                    now_us=now_us,
                    state=state,
                    room=Room(load=load, bound=bound, most_bytes=sources.queue_bytes, workers=workers),
                    seen=seen[state.lane],
                    standing=breaker.standing if breaker and breaker.standing is not NEW else None,
                    counts=breaker.counts if breaker else Counts(),
                    now_s=breaker.now if breaker else 0.0,
                    closings=_closings(operation, connection, state, closed, now_us),
                    findings=findings.get(operation.tool, ()),
                    whole=whole,
                )
            )
        return facts

    async def with_tokens(self, facts: Sequence[LaneFacts], needs_s: float | None) -> list[LaneFacts]:
        """Add how credentials stand; with `needs_s`, those that will not last so long are tested."""
        found: dict[str, Token | None] = {}
        wanted = {one.named: one for one in facts}
        tokens = await asyncio.gather(*(self._token(one, needs_s) for one in wanted.values()))
        found |= dict(zip(wanted, tokens, strict=True))
        return [replace(one, token=found[one.named]) for one in facts]

    async def with_reach(self, facts: Sequence[LaneFacts]) -> list[LaneFacts]:
        """Add whether the hosts can be reached."""
        wanted = {(url, one.operation.egress) for one in facts for url in urls_of(one)}
        looked = await asyncio.gather(*(self.sources.doors.look(*place) for place in wanted))
        found = dict(zip(wanted, looked, strict=True))
        return [replace(one, reached=[found[url, one.operation.egress] for url in urls_of(one)]) for one in facts]

    async def states(self, lanes: Sequence[str]) -> Mapping[str, LaneState]:
        """Look at lanes by name."""
        return (await self._states(lanes))[1]

    async def _states(self, lanes: Sequence[str]) -> tuple[int, dict[str, LaneState]]:
        now_us, found = 0, dict[str, LaneState]()
        for at in range(0, len(lanes), SURVEYED):
            now_us, some = await self.sources.queue.survey(lanes[at : at + SURVEYED])
            found |= {state.lane: state for state in some}
        return now_us, found

    async def _breakers(self, pairs: Iterable[Pair]) -> dict[str, BreakerState]:
        connectors = {operation.connector for operation, _ in pairs}
        try:
            found = await self.sources.breakers.ls(lambda tool: tool.partition(".")[0] in connectors)
        except StoreAwayError:
            return {}
        return {one.key: one for one in found}

    async def _findings(self, pairs: Iterable[Pair]) -> dict[str, list[SeenFinding]]:
        tools = {operation.tool for operation, _ in pairs}
        states = await self.sources.contracts.ls(lambda tool: tool in tools)
        return {one.operation.tool: [seen for seen in one.findings if seen.state != "accepted"] for one in states}

    async def _token(self, facts: LaneFacts, needs_s: float | None) -> Token | None:
        operation, connection = facts.operation, facts.connection
        oauth2 = operation.auth.oauth2
        if oauth2 is None or connection is None or connection.missing:
            return None
        found = credential(operation, connection)
        kept, consents = await self.sources.tokens.look(found), oauth2.authorize_url is not None
        asks = oauth2.grant == "refresh_token" and kept.version == 0 and "refresh_token" not in connection.secrets
        token = Token(kept=kept, asks=asks, consents=consents)
        lasts = kept.usable and (kept.left_s is None or kept.left_s >= (needs_s or 0.0))
        if needs_s is None or asks or lasts or kept.state in SHUT or tested_lately(kept):
            return token
        if kept.retry_us > kept.now_us or kept.state is TokenState.IN_DOUBT:
            return replace(token, tested=Waiting(0.0, kept.detail or "the vendor is left alone for a moment"))
        tested = await self._tested(facts)
        after = await self.sources.tokens.look(found)
        if isinstance(tested, AccessToken) and after.version == kept.version:
            # The old one is still good, but that is not what was asked for.
            tested = Waiting(0.0, after.detail or "the vendor gave none")
        return replace(token, kept=after, tested=tested)

    async def _tested(self, facts: LaneFacts) -> Found:
        """Get a new token, once for all who ask."""
        assert facts.connection is not None  # noqa: S101 - `_token` has looked
        name, tokens = facts.named, self.sources.tokens
        test = self._tests.get(name)
        if test is None:
            test = self._tests[name] = asyncio.create_task(tokens.check(credential(facts.operation, facts.connection)))
            test.add_done_callback(lambda _: self._tests.pop(name, None))
        return await asyncio.shield(test)


def pairs_of(catalog: Catalog, sees: Callable[[str], bool], connector: str | None = None) -> list[Pair]:
    """Return every operation with each connection its calls may use; None stands for calls without one."""
    pairs: list[Pair] = []
    for operation in catalog.operations.values():
        if not sees(operation.tool) or connector not in {None, operation.connector}:
            continue
        known = [one for one in catalog.connections.values() if one.connector == operation.connector]
        without = catalog.connection_for(operation, None) is None
        pairs += [(operation, one) for one in known]
        pairs += [(operation, None)] * (without or not known)
    return pairs


def lane_of(operation: Operation, connection: Connection | None) -> str:
    """Return the name of a lane."""
    return f"{operation.connector}|{connection.name if connection else '-'}|{operation.name}"


def base_url_of(operation: Operation, connection: Connection | None) -> str:
    """Return the address that calls go to."""
    return (connection.base_url if connection else None) or operation.base_url


def urls_of(facts: LaneFacts) -> list[str]:
    """Return the addresses that calls need: the vendor's, and that of its token endpoint."""
    base_url, oauth2 = base_url_of(facts.operation, facts.connection), facts.operation.auth.oauth2
    token_url = endpoint(oauth2.token_url, base_url) if oauth2 else base_url
    return [base_url] + [token_url] * (origin_of(token_url) != origin_of(base_url))


def _closings(
    operation: Operation, connection: Connection | None, state: LaneState, closed: Sequence[Closing], now_us: int
) -> list[Shut]:
    """Return what is closed on a lane's way."""
    name, connector = connection.name if connection else "-", operation.connector
    gates = {f"@{connector}", f"@{connector}|{name}", f"@{connector}||{operation.name}", f"@{state.lane}"}
    limits = {
        use.limit.instance(connector, connection.name if connection else None, operation.name): use.limit.name
        for use in operation.uses
    }
    found = [one for one in closed if one.key in gates or one.key in limits]
    shut = [
        Shut(
            reason=one.reason,
            detail=one.detail,
            left_s=_left_s(one.until_us, now_us),
            target=gate_target(one.key) if one.key in gates else limits[one.key],
            limit=limits.get(one.key),
        )
        for one in found
    ]
    held = state.held
    if held is not None and held.limit is None and held.key in limits and held.detail == "forgotten":
        name, lost = limits[held.key], "Redis lost its state, and nobody knows what was sent"
        left_s = _left_s(held.until_us, now_us)
        shut.append(Shut(reason=HoldReason.RATE_LIMIT, detail=lost, left_s=left_s, target=name, limit=name))
    return shut


def _left_s(until_us: int | None, now_us: int) -> float | None:
    return None if until_us is None else max(0.0, (until_us - now_us) / 1_000_000)
