"""Where a call gets its token: from this process's memory, else from the shared store, else from the vendor, once for the whole fleet.

A token is kept before it is used. While it is as good as new it costs one look-up; past that it is renewed behind the back of those
who go on using it. A caller that is cancelled cancels nobody's refresh: the vendor may have answered already.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from connectors.auth.found import ConfigError, Found, NeedsConsent, Waiting
from connectors.auth.freshness import IDLE_S, SHUT, TokenState, Window, backoff_s, window
from connectors.auth.grants import TRIES_IN_DOUBT, Denied, Granted, Verdict, lost
from connectors.auth.refresher import Client, Code, Refresher, client_of
from connectors.auth.token_store import (
    AccessToken,
    Began,
    Begin,
    Fall,
    Fresh,
    Kept,
    Seal,
    Tokens,
    TokenStore,
    Unseal,
    sealed,
    unsealed,
)
from connectors.auth.trial import Memory
from connectors.declared import Connection, OAuth2, Operation
from connectors.secret import Secret

log = structlog.get_logger()

LOOK_S: Final = (0.02, 0.2)
"""How often somebody looks whether another process has the new token, at first and later."""
PATIENCE_S: Final = 1.0
"""How long a call waits here before it waits in its lane instead."""
LATER_S: Final = 0.25
"""When it looks again."""
SOON_S: Final = 300.0
"""A version refused so soon after it replaced a refused one is no accident."""
LAPS: Final = 200
UNASKED: Final = "nobody has consented yet"
FORGOTTEN: Final = (
    "Redis has forgotten the refresh token that the vendor gave last; one in the manifest is older than that"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Time, dice, keys and a name."""

    clock: Callable[[], float]
    """Epoch seconds."""
    uniform: Callable[[float, float], float]
    seal: Seal
    unseal: Unseal
    holder: str
    lease_s: float = 20.0
    observe: Callable[[str, str], None] = lambda _connector, _result: None
    """Is told what came of each request for a token: `renewed`, the state it fell into, or `refused` for a 401. Only counts."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Credential:
    """One connection's, with everything it takes to renew it."""

    name: str
    oauth2: OAuth2
    connection: Connection
    client: Client | str


def credential(operation: Operation, connection: Connection) -> Credential:
    """Join what an operation's connector declares with a connection; raises ValueError when it declares no oauth2."""
    if operation.auth.oauth2 is None:
        raise ValueError(f"{operation.connector} does not use oauth2")
    base_url = connection.base_url or operation.base_url
    client = client_of(operation.auth.oauth2, operation.egress, connection, base_url)
    return Credential(f"{operation.connector}|{connection.name}", operation.auth.oauth2, connection, client)


class TokenSource:
    """One process's."""

    def __init__(self, store: TokenStore, refresher: Refresher, terms: Terms) -> None:
        """`store` is shared with the other processes."""
        self._store = store
        self._refresher = refresher
        self._terms = terms
        self._dice = terms.uniform(-1.0, 1.0)
        self._memory: dict[tuple[str, str], Memory] = {}
        self._flights: dict[str, asyncio.Task[Found]] = {}

    async def token_for(self, operation: Operation, connection: Connection, now_s: float) -> Found:
        """Return a token that may be used now, or what there is instead; never waits longer than `PATIENCE_S`."""
        memory = self._memory.get((operation.connector, connection.name))
        if memory is not None and now_s < memory.window.hard_s:
            memory.used_s = now_s
            if now_s >= memory.window.soft_s:
                self._flight(credential(operation, connection))
            return memory.token if memory.proven else await self._tried_out(memory, now_s)
        flight = self._flight(credential(operation, connection))
        done, _ = await asyncio.wait({flight}, timeout=PATIENCE_S)
        if not done:
            return Waiting(now_s + PATIENCE_S + LATER_S, "a new token is being fetched")
        found, memory = flight.result(), self._memory.get((operation.connector, connection.name))
        if memory is None or memory.token is not found:
            return found
        return await self._tried_out(memory, now_s)

    async def _tried_out(self, memory: Memory, now_s: float) -> Found:
        if await memory.admit(PATIENCE_S):
            return memory.token
        return Waiting(now_s + LATER_S, "one call tries the new token, since the vendor refused the one before it")

    def tried(self, operation: Operation, connection: Connection, version: int, *, accepted: bool) -> None:
        """Learn that a call with this version is over; `accepted` when the vendor took the token."""
        memory = self._memory.get((operation.connector, connection.name))
        if memory is not None and memory.token.version == version:
            memory.tried(accepted=accepted)

    async def report_401(self, operation: Operation, connection: Connection, version: int) -> None:
        """Learn that the vendor refused a token; the next `token_for` has another one, or says how long to wait.

        One refresh for each version; when the next version is refused as well, the credential rests.
        """
        key, name = (operation.connector, connection.name), f"{operation.connector}|{connection.name}"
        memory = self._memory.get(key)
        if memory is not None and memory.token.version > version:
            return
        kept = await self._store.read(name)
        wait_us = round(1e6 * backoff_s(kept.refusals + 1, None, self._terms.uniform(0.0, 1.0)))
        await self._store.refuse(name, version, wait_us=wait_us, soon_us=round(SOON_S * 1e6))
        if (memory := self._memory.pop(key, None)) is not None:
            memory.tried(accepted=False)
        self._terms.observe(operation.connector, "refused")

    async def check(self, found: Credential) -> Found:
        """Refresh now, whatever the state, as a person asked."""
        running = self._flights.get(found.name)
        if running is not None:
            await asyncio.wait({running})
        return await asyncio.shield(self._flight(found, force=True))

    async def give(self, found: Credential, refresh: Secret) -> Found:
        """Keep a refresh token that a person brought, and use it once to see that it works."""
        await self._put(found, Tokens(None, refresh), None)
        return await self.check(found)

    async def redeem(self, found: Credential, code: Code) -> Found:
        """Exchange the code of a person's consent for tokens, and keep them."""
        if isinstance(found.client, str):
            return ConfigError(found.client)
        answer = await self._refresher.redeem(found.client, code, now_s=self._terms.clock())
        if isinstance(answer, Denied):
            return (NeedsConsent if answer.verdict is Verdict.REFUSED else ConfigError)(answer.message)
        if answer.refresh is None:
            return ConfigError("the vendor gave no refresh token with its consent; does a scope have to ask for it?")
        await self._put(found, Tokens(answer.access, answer.refresh), answer)
        return await self._reread(found)

    async def forget(self, found: Credential) -> None:
        """Forget the tokens, as a person wants."""
        await self._put(found, None, None)

    async def _put(self, found: Credential, tokens: Tokens | None, granted: Granted | None) -> None:
        """Write over whatever is there, and over whoever is about to write."""
        done = False
        while not done:
            kept = await self._store.read(found.name)
            if tokens is None:
                fresh = Fresh(version=kept.version + 1, detail="an operator revoked it")
            else:
                fresh = self._sealed(found, kept, tokens, granted)
            done = await self._store.put(found.name, fresh, TokenState.ACTIVE if tokens else TokenState.REVOKED)
        self._memory.pop(_key(found), None)

    async def forgotten(self, found: Credential) -> None:
        """Ask for a consent, once Redis has forgotten a rotated refresh token: to use the declared one again would look like theft."""
        kept = await self._store.read(found.name)
        if found.oauth2.grant == "refresh_token" and found.oauth2.rotation != "none" and kept.fence == 0:
            await self._store.put(found.name, Fresh(version=1, detail=FORGOTTEN), TokenState.NEEDS_CONSENT)

    async def look(self, found: Credential) -> Kept:
        """Tell how a credential stands."""
        return await self._store.read(found.name)

    async def tend(self, found: Credential, *, first: bool = False) -> None:
        """Renew what is in use before it ends, what nobody uses once a day, and what somebody left half done.

        `first`, at a start, also tries what was wrongly configured before.
        """
        kept = await self._store.read(found.name)
        now_s, memory = self._terms.clock(), self._memory.get(_key(found))
        if memory is not None and kept.version > memory.token.version:
            self._memory.pop(_key(found))
        idle = found.oauth2.grant == "refresh_token" and _idle(kept)
        used = memory is not None and now_s >= memory.window.soft_s and now_s - memory.used_s < IDLE_S / 24
        abandoned = 0 < kept.lease_us <= kept.now_us
        if first and kept.state is TokenState.CONFIG_ERROR:
            await self.check(found)
        elif abandoned:
            # As a call would: not before the rules for a doubt allow it.
            await asyncio.shield(self._flight(found))
        elif kept.state not in SHUT and kept.retry_us <= kept.now_us and (idle or used):
            await asyncio.shield(self._flight(found, idle=idle))

    async def close(self) -> None:
        """Let refreshes under way end: their answers must be kept."""
        if self._flights:
            await asyncio.wait(set(self._flights.values()), timeout=self._terms.lease_s / 2)

    # ------------------------------------------------------------------------------------------------------------ one flight

    def _flight(self, found: Credential, *, force: bool = False, idle: bool = False) -> "asyncio.Task[Found]":
        flight = self._flights.get(found.name)
        if flight is None:
            flight = asyncio.create_task(self._obtain(found, force=force, idle=idle))
            self._flights[found.name] = flight
            flight.add_done_callback(lambda done: self._landed(found.name, done))
        return flight

    def _landed(self, name: str, done: "asyncio.Task[Found]") -> None:
        self._flights.pop(name, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            # Only its kind: the text of a foreign error may quote what it was given.
            log.error("token.broken", connection=name, error=type(error).__name__)

    async def _obtain(self, found: Credential, *, force: bool, idle: bool) -> Found:
        if isinstance(found.client, str):
            return ConfigError(found.client, held=False)
        memory = self._memory.get(_key(found))
        knows = memory.token.version if memory else 0
        pause_s = LOOK_S[0]
        for _ in range(LAPS):
            began = await self._store.begin(found.name, self._begin(found, knows, force=force))
            kept, force = began.kept, force and began.answer == "held"
            if began.answer == "granted":
                return await self._renew(found, kept)
            if began.answer == "moved" and self._fresh(kept, idle=idle) and (token := self._adopt(found, kept)):
                return token
            knows = await self._caught_up(found, knows, kept)
            if began.answer != "moved":
                if (token := self._adopt(found, kept)) is not None:
                    return token
                if began.answer != "held":
                    return self._without(began)
                await self._terms.sleep(pause_s * self._terms.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, LOOK_S[1])
        return Waiting(self._terms.clock() + LATER_S, "a new token is being fetched elsewhere")

    async def _caught_up(self, found: Credential, knows: int, kept: Kept) -> int:
        if knows > kept.version == 0:
            await self.forgotten(found)
        return kept.version

    def _begin(self, found: Credential, knows: int, *, force: bool) -> Begin:
        rotation = "none" if found.oauth2.grant == "client_credentials" else found.oauth2.rotation
        return Begin(
            knows=knows,
            holder=self._terms.holder,
            lease_us=round(self._terms.lease_s * 1e6),
            tries_in_doubt=TRIES_IN_DOUBT[rotation],
            spare=rotation == "strict",
            force=force,
        )

    async def _renew(self, found: Credential, kept: Kept) -> Found:
        """Ask the vendor, as the one who may, and keep what it says before anybody uses it."""
        assert not isinstance(found.client, str)  # noqa: S101 - `_obtain` has looked
        refresh = self._refresh_token(found, kept)
        if isinstance(refresh, str):
            return await self._fell(found, kept, Fall(state=TokenState.NEEDS_CONSENT, detail=refresh))
        answer = await self._refresher.fresh(found.client, refresh, now_s=self._terms.clock())
        if isinstance(answer, Denied):
            return await self._fell(found, kept, self._fall(found, kept, answer))
        fresh = self._sealed(found, kept, Tokens(answer.access, answer.refresh or refresh), answer)
        if await self._store.commit(found.name, kept.fence, fresh):
            if fresh.detail:
                log.warning("token.scope_lost", connection=found.name, detail=fresh.detail)
            self._terms.observe(found.connection.connector, "renewed")
        return await self._reread(found)

    def _refresh_token(self, found: Credential, kept: Kept) -> Secret | str | None:
        """Return the refresh token to use, None where the grant has none, or why nobody can be asked."""
        if found.oauth2.grant == "client_credentials":
            return None
        if not kept.sealed:
            return found.connection.secrets.get("refresh_token") or UNASKED
        try:
            return unsealed(self._terms.unseal, found.name, kept).refresh or UNASKED
        except Exception as error:  # noqa: BLE001 - whatever the keys' owner raises
            return f"what is kept of it cannot be opened ({type(error).__name__}); set it again"

    def _fall(self, found: Credential, kept: Kept, denied: Denied) -> Fall:
        wait_s = backoff_s(kept.failures, denied.retry_after_s, self._terms.uniform(0.0, 1.0))
        wait_us, tries = round(wait_s * 1e6), self._begin(found, 0, force=False).tries_in_doubt
        match denied.verdict:
            case Verdict.REFUSED if found.oauth2.grant == "refresh_token":
                return Fall(state=TokenState.NEEDS_CONSENT, detail=denied.message)
            case Verdict.REFUSED | Verdict.MISCONFIGURED:
                return Fall(state=TokenState.CONFIG_ERROR, detail=denied.message)
            case Verdict.UNCLEAR if tries >= 0:
                return Fall(state=TokenState.IN_DOUBT, detail=denied.message, wait_us=wait_us, tries_in_doubt=tries)
            case Verdict.UNCLEAR | Verdict.BUSY:
                return Fall(state=TokenState.BACKOFF, detail=denied.message, wait_us=wait_us)

    async def _fell(self, found: Credential, kept: Kept, fall: Fall) -> Found:
        if await self._store.fail(found.name, kept.fence, fall):
            self._terms.observe(found.connection.connector, fall.state)
        return await self._reread(found)

    async def _reread(self, found: Credential) -> Found:
        """Return what the store has now: perhaps somebody else's newer token."""
        kept = await self._store.read(found.name)
        return self._adopt(found, kept) or self._without(Began("shut" if kept.state in SHUT else "waits", kept))

    def _without(self, began: Began) -> Found:
        kept = began.kept
        if kept.state in SHUT:
            return _shut(kept)
        wait_s = max(LATER_S, (kept.retry_us - kept.now_us) / 1e6)
        return Waiting(self._terms.clock() + wait_s, kept.detail or "there is no valid token yet")

    # ------------------------------------------------------------------------------------------------------------ tokens

    def _fresh(self, kept: Kept, *, idle: bool) -> bool:
        """Tell whether news from the store saves asking the vendor."""
        return kept.usable and self._terms.clock() < self._window(kept).soft_s and not (idle and _idle(kept))

    def _window(self, kept: Kept) -> Window:
        # The store's clock tells how long a token has left, so that ours may be wrong by any amount.
        return window(self._terms.clock(), kept.life_s, kept.left_s, self._dice)

    def _adopt(self, found: Credential, kept: Kept) -> AccessToken | None:
        """Take a token that may be used into memory."""
        held = self._window(kept)
        if not kept.usable or self._terms.clock() >= held.hard_s:
            self._memory.pop(_key(found), None)
            return None
        memory = self._memory.get(_key(found))
        if memory is not None and memory.token.version == kept.version:
            # Nobody asks again for a moment, however many calls come by.
            memory.window = Window(max(memory.window.soft_s, self._terms.clock() + LATER_S), memory.window.hard_s)
            return memory.token
        try:
            access = unsealed(self._terms.unseal, found.name, kept).access
        except Exception as error:  # noqa: BLE001 - whatever the keys' owner raises
            log.error("token.unopened", connection=found.name, error=type(error).__name__)  # noqa: TRY400 - see `_landed`
            return None
        if access is None:
            return None
        token = AccessToken(access, kept.version)
        self._memory[_key(found)] = Memory(token, held, self._terms.clock(), proven=kept.refusals == 0)
        return token

    def _sealed(self, found: Credential, kept: Kept, tokens: Tokens, granted: Granted | None) -> Fresh:
        version = kept.version + 1
        key_id, blob = sealed(self._terms.seal, found.name, version, tokens)
        life_us = round((granted.life_s or 0) * 1e6) if granted else 0
        missing = lost(found.oauth2.scopes, granted.scopes) if granted else ()
        return Fresh(
            version=version,
            sealed=blob,
            key_id=key_id,
            # From when we began to ask: what the answer took on its way is gone.
            issued_us=kept.now_us,
            expires_us=kept.now_us + life_us if life_us else 0,
            scope=" ".join((granted.scopes if granted else None) or found.oauth2.scopes),
            detail=f"the vendor gave less than was asked for: {' '.join(missing)}" if missing else "",
            stale=tokens.access is None,
        )


def _shut(kept: Kept) -> Found:
    detail = kept.detail or UNASKED
    return ConfigError(detail) if kept.state is TokenState.CONFIG_ERROR else NeedsConsent(detail)


def _key(found: Credential) -> tuple[str, str]:
    return found.connection.connector, found.connection.name


def _idle(kept: Kept) -> bool:
    return kept.version > 0 and kept.now_us - kept.issued_us > IDLE_S * 1e6
