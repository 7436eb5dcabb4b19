"""A source of tokens on a real Redis, as a worker has one: for tests that drive it without a gateway around it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from time import time
from typing import Any

import msgspec
from redis.asyncio import Redis
from ulid import ULID

from connectors.auth.refresher import Refresher
from connectors.auth.token_source import Credential, Terms, TokenSource, credential
from connectors.declared import Auth, Connection, Egress, OAuth2, Operation
from connectors.secret import Secret
from connectors.transport import Engine
from dlq.keys import KeyRing
from gateway.lanes.queue import Lanes
from gateway.lanes.queue import Terms as LaneTerms
from gateway.lanes.tokens import Telling, Tokens
from schemas.effect import OperationClass
from schemas.topics import Shard, Topics

KEYS = KeyRing({"k1": b"k" * 32})
NAME = "crm|main"
CLIENT = OAuth2(grant="client_credentials", token_url="/oauth/token", scopes=("contacts",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One process's source, and what it stands on."""

    source: TokenSource
    store: Tokens
    lanes: Lanes
    operation: Operation
    connection: Connection

    @property
    def credential(self) -> Credential:
        return credential(self.operation, self.connection)

    async def token(self) -> Any:
        """Ask as a call would."""
        return await self.source.token_for(self.operation, self.connection, time())


def operation(url: str, oauth2: OAuth2, hosts: Sequence[str] = ("127.0.0.1",)) -> Operation:
    return Operation(
        tool="crm.echo",
        connector="crm",
        name="echo",
        op_class=OperationClass.SAFE,
        method="GET",
        path="/v1/echo",
        query={},
        headers={},
        base_url=url,
        timeout_s=2.0,
        max_attempts=5,
        idempotency_header=None,
        idempotency_window_s=None,
        auth=Auth(type="oauth2", oauth2=oauth2),
        egress=Egress(allow_hosts=tuple(hosts), allow_private=True),
        input_schema=None,
        output_schema=None,
        approval_required=False,
    )


def refreshing(rotation: Any = "none", **more: Any) -> OAuth2:
    return OAuth2(grant="refresh_token", token_url="/oauth/token", rotation=rotation, **more)


def connection(**secrets: str) -> Connection:
    known = {"client_id": "client", "client_secret": "s3cret/with+signs", "refresh_token": "refresh-0", **secrets}
    return Connection(name="main", connector="crm", secrets={name: Secret(text) for name, text in known.items()})


@asynccontextmanager
async def bench(redis: "Redis", url: str, oauth2: OAuth2, holder: str = "w1", **more: Any) -> AsyncIterator[Bench]:
    """Join the parts; `more` are terms, and `secrets`, `timeout_s`, `hosts` and `keys`."""
    shard, topics = Shard(), Topics()
    keys = more.pop("keys", KEYS)
    secrets, timeout_s, hosts = more.pop("secrets", {}), more.pop("timeout_s", 2.0), more.pop("hosts", ["127.0.0.1"])
    terms = LaneTerms(items=128, size_bytes=1 << 20, wait_s=0.1, most_bytes=1 << 30)
    lanes = Lanes(redis, topics, shard=shard, terms=terms, plans=dict)
    telling = Telling(now=lambda: datetime.now(UTC), new_id=lambda: str(ULID()))
    store = Tokens(redis, topics, shard, gates=lanes, telling=telling)
    engine = Engine()
    await engine.open()
    given = Terms(clock=time, uniform=Random(holder).uniform, seal=keys.seal, unseal=keys.open, holder=holder)
    source = TokenSource(store, Refresher(engine, timeout_s=timeout_s), replace(given, **more))
    try:
        yield Bench(
            source=source,
            store=store,
            lanes=lanes,
            operation=operation(url, oauth2, hosts),
            connection=connection(**secrets),
        )
    finally:
        await source.close()
        await engine.close()


async def gate(redis: "Redis", name: str = f"@{NAME}") -> dict[str, Any] | None:
    """Return what closes a connection's gate."""
    books: Any = redis
    packed = await books.hget("{s0}:gates", name)
    return None if packed is None else msgspec.msgpack.decode(packed)["needs_consent"]
