"""The guards of one process, joined: breaker, tokens and contract, each with what it shares through Redis and on the disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from connectors.auth.refresher import Refresher
from connectors.auth.token_source import Terms as TokenTerms
from connectors.auth.token_source import TokenSource
from connectors.breaking.breakers import Breakers
from connectors.breaking.store import StoreAwayError
from connectors.catalog import Catalog
from connectors.contract_files import BaselineFiles
from connectors.contract_guard import ContractGuard
from connectors.pipeline import Guards
from connectors.transport import Engine
from dlq.keys import KeyRing
from gateway import telemetry
from gateway.alerts import Alerts
from gateway.endings import ended
from gateway.flow.contract_watch import ContractWatch
from gateway.flow.quarantine import Quarantine
from gateway.lanes.breakers import Around, RedisBreakers
from gateway.lanes.findings import Findings
from gateway.lanes.overview import Overview
from gateway.lanes.spread.above import AllOverviews
from gateway.lanes.spread.queue import AllLanes
from gateway.lanes.spread.shards import Shards
from gateway.lanes.spread.stores import AllBreakers, AllFindings, AllTokens
from gateway.lanes.tokens import Telling, Tokens
from gateway.policy.origins import gates_by_breaker
from gateway.ports import Ambient
from gateway.settings import Settings
from schemas.contracts.finding import Finding
from schemas.topics import Topics

REFRESH_S: Final = 9.0
"""One request to a token endpoint, in total."""

LAST_WORD_S: Final = 1.0
"""A process that ends waits so long for Redis to take what its breakers still know."""

REFRESH_LEASE_S: Final = 20.0
"""Nobody else asks for the same token meanwhile: more than two requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What the guards share with the rest of the process."""

    settings: Settings
    ambient: Ambient
    shards: Shards
    topics: Topics
    """As they are called where everybody reads them; those of each shard are told by it."""
    lanes: AllLanes
    engine: Engine
    alerts: Alerts
    keys: KeyRing
    catalog: Callable[[], Catalog]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """The guards, and the shared halves of theirs that commands and chores need."""

    guards: Guards
    standings: AllBreakers
    tokens: AllTokens
    baselines: BaselineFiles
    findings: AllFindings
    watch: ContractWatch
    quarantine: Quarantine


@asynccontextmanager
async def open_guards(common: Common) -> AsyncIterator[Guarding]:
    """Join the guards, keep their breakers in step with those of other processes, and take them apart again."""
    standings = _standings(common)
    tokens = _tokens(common)
    baselines = BaselineFiles(common.settings.data / "contracts")
    findings = AllFindings([Findings(seat.redis, seat.topics, seat.shard) for seat in common.shards.parts])
    guards = Guards(
        breakers=_breakers(common, standings), tokens=_source(common, tokens), contracts=ContractGuard(baselines.of)
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(guards.tokens.close)
        heard = standings.listen(common.shards.home.listener, guards.breakers.heard, wait_s=common.settings.redis_wait)
        stack.push_async_callback(_last_word, guards.breakers)
        for beside in (guards.breakers.keep(), heard):
            stack.push_async_callback(ended, [asyncio.create_task(beside)])
        yield Guarding(
            guards=guards,
            standings=standings,
            tokens=tokens,
            baselines=baselines,
            findings=findings,
            watch=ContractWatch(findings, common.ambient, common.alerts.publish, _count),
            quarantine=_quarantine(common, baselines),
        )


async def _last_word(breakers: Breakers) -> None:
    """Share what the last calls told, so that the place of a probe that ended is not missed until its lease ends."""
    with contextlib.suppress(StoreAwayError, TimeoutError):
        async with asyncio.timeout(LAST_WORD_S):
            await breakers.round()


def _standings(common: Common) -> AllBreakers:
    around = Around(
        worker=common.ambient.worker,
        clock=lambda: common.ambient.now().timestamp(),
        gates=lambda key: gates_by_breaker(common.catalog()).get(key, ()),
        new_id=common.ambient.new_id,
    )
    return AllBreakers([RedisBreakers(seat.redis, seat.topics, seat.shard, around) for seat in common.shards.parts])


def _breakers(common: Common, standings: AllBreakers) -> Breakers:
    return Breakers(
        standings,
        clock=lambda: common.ambient.now().timestamp(),
        uniform=common.ambient.uniform,
        worker=common.ambient.worker,
        observe=telemetry.record_breaker,
    )


def _tokens(common: Common) -> AllTokens:
    telling = Telling(now=common.ambient.now, new_id=common.ambient.new_id, report=telemetry.record_token_move)
    return AllTokens(
        [
            Tokens(seat.redis, seat.topics, seat.shard, gates=common.lanes, telling=telling)
            for seat in common.shards.parts
        ]
    )


def _source(common: Common, tokens: AllTokens) -> TokenSource:
    terms = TokenTerms(
        clock=lambda: common.ambient.now().timestamp(),
        uniform=common.ambient.uniform,
        seal=common.keys.seal,
        unseal=common.keys.open,
        holder=common.ambient.worker,
        lease_s=REFRESH_LEASE_S,
        observe=telemetry.record_token,
    )
    return TokenSource(tokens, Refresher(common.engine, timeout_s=REFRESH_S), terms)


def _quarantine(common: Common, baselines: BaselineFiles) -> Quarantine:
    return Quarantine(common.lanes, overview_of(common.shards, common.settings).closed, baselines.of)


def overview_of(shards: Shards, settings: Settings) -> AllOverviews:
    """Return the queue from above."""
    return AllOverviews([Overview(seat.redis, seat.shard, high_bytes=settings.memory_high) for seat in shards.parts])


def _count(tool: str, found: Finding) -> None:
    telemetry.record_finding(tool, found)
