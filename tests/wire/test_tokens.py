"""Tokens against a real token endpoint and a real Redis: what it counts, what is kept, who waits and who is told."""

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from redis.asyncio import Redis

from connectors.auth.found import ConfigError, NeedsConsent, Waiting
from connectors.auth.freshness import MOVES, TokenState
from connectors.auth.token_store import AccessToken
from connectors.catalog import Catalog
from connectors.declared import OAuth2
from connectors.secret import Secret
from gateway.flow.token_care import TokenCare
from tests.credentials import CLIENT, NAME, Bench, bench, gate, refreshing
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.wire


async def events(redis: "Redis", stream: str = "tool-events") -> list[dict[str, Any]]:
    books: Any = redis  # the client's types know streams of no kind
    return [msgspec.json.decode(fields[b"data"]) for _, fields in await books.xrange(stream)]


async def eventually(one: Bench, kind: type, timeout_s: float = 5.0) -> Any:
    """Ask until there is an answer of this kind."""
    give_up = time.monotonic() + timeout_s
    while not isinstance(found := await one.token(), kind):
        assert time.monotonic() < give_up, found
        await asyncio.sleep(0.02)
    return found


def pem(key: Any) -> tuple[str, str]:
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public.decode()


@pytest.mark.parametrize("method", ["basic", "post"])
async def test_a_client_identifies_itself_and_a_call_may_be_made(
    redis: "Redis", vendor: VendorProcess, method: Any
) -> None:
    vendor.desk(DeskRequest(method=method))
    vendor.auth("oauth2")
    oauth2 = OAuth2(grant="client_credentials", token_url="/oauth/token", client_auth=method)
    async with bench(redis, vendor.url, oauth2) as one:
        token = await one.token()
        assert isinstance(token, AccessToken)
        assert await one.token() is token
    assert vendor.desk_counts().granted == {"client_credentials": 1}


@pytest.mark.parametrize(
    "make", [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())]
)
async def test_each_assertion_is_a_new_one(redis: "Redis", vendor: VendorProcess, make: Any) -> None:
    private, public = pem(make())
    vendor.desk(DeskRequest(method="private_key_jwt", public_key=public))
    oauth2 = OAuth2(grant="client_credentials", token_url="/oauth/token", client_auth="private_key_jwt", key_id="k1")
    async with bench(redis, vendor.url, oauth2, secrets={"private_key": private}) as one:
        for _ in range(3):
            assert isinstance(await one.source.check(one.credential), AccessToken)
    books = vendor.desk_counts()
    assert (books.granted, books.refused) == ({"client_credentials": 3}, {})


async def test_a_key_that_is_none_is_said_and_not_shown(redis: "Redis", vendor: VendorProcess) -> None:
    oauth2 = OAuth2(grant="client_credentials", token_url="/oauth/token", client_auth="private_key_jwt")
    async with bench(redis, vendor.url, oauth2, secrets={"private_key": "canary-key"}) as one:
        found = await one.token()
    assert isinstance(found, ConfigError)
    assert "private key" in found.reason
    assert "canary" not in found.reason
    assert vendor.desk_counts().requests == 0


async def test_many_callers_and_one_request(redis: "Redis", vendor: VendorProcess) -> None:
    vendor.desk(DeskRequest(rotation="strict"))
    vendor.script("token", Behaviour(do=Kind.DELAY, seconds=0.3))
    async with (
        bench(redis, vendor.url, refreshing("strict"), "a") as a,
        bench(redis, vendor.url, refreshing("strict"), "b") as b,
    ):
        callers = [asyncio.create_task(one.token()) for one in (a, b) for _ in range(50)]
        await asyncio.sleep(0.1)
        for caller in callers[:10]:
            caller.cancel()
        found = await asyncio.gather(*callers, return_exceptions=True)
    assert {one.value.reveal() for one in found if isinstance(one, AccessToken)} == {vendor.desk_counts().issued[-1]}
    assert (vendor.desk_counts().requests, vendor.desk_counts().reuses) == (1, 0)


async def test_a_token_is_renewed_behind_the_back_of_its_users(redis: "Redis", vendor: VendorProcess) -> None:
    vendor.desk(DeskRequest(lifetime=3, rotation="strict"))
    vendor.auth("oauth2")
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        versions, longest_s, end = set(), 0.0, time.monotonic() + 5
        await one.token()
        while time.monotonic() < end:
            began = time.perf_counter()
            token = await one.token()
            longest_s = max(longest_s, time.perf_counter() - began)
            assert isinstance(token, AccessToken)
            versions.add(token.version)
            await asyncio.sleep(0.005)
    books = vendor.desk_counts()
    assert (books.requests, books.reuses, books.alive) == (max(versions), 0, True)
    assert max(versions) >= 2
    assert longest_s < 0.2


@pytest.mark.parametrize(("told", "version"), [("3600", 1), (0, 1), (-5, 1), (None, 1), ("soon", 1)])
async def test_a_life_that_is_told_oddly_is_no_reason_to_ask_again(
    redis: "Redis", vendor: VendorProcess, told: Any, version: int
) -> None:
    vendor.desk(DeskRequest(told=told))
    async with bench(redis, vendor.url, CLIENT) as one:
        assert [(await one.token()).version for _ in range(3)] == [version] * 3
    assert vendor.desk_counts().requests == 1


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, refreshing()) as one:
        for _ in range(3):
            assert isinstance(await one.source.check(one.credential), AccessToken)
    assert vendor.desk_counts().granted == {"refresh_token": 3}


async def test_fewer_scopes_than_asked_for_are_noted(redis: "Redis", vendor: VendorProcess) -> None:
    vendor.desk(DeskRequest(scope="read"))
    async with bench(redis, vendor.url, refreshing(scopes=("read", "write"))) as one:
        await one.token()
        kept = await one.store.read(NAME)
    assert kept.scope == "read"
    assert "write" in kept.detail


@pytest.mark.parametrize("status", [500, 502, 429])
async def test_an_endpoint_in_trouble_is_left_alone_and_a_valid_token_used(
    redis: "Redis", vendor: VendorProcess, status: int
) -> None:
    vendor.desk(DeskRequest(lifetime=4, rotation="strict"))
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        first = await one.token()
        bad = Behaviour(do=Kind.STATUS, status=status, headers={"Retry-After": "2"}, forever=True, body={})
        vendor.script("token", bad)
        end = time.monotonic() + 3.2
        while time.monotonic() < end:
            assert (await one.token()).version == first.version
            await asyncio.sleep(0.01)
        assert (await one.store.read(NAME)).state == "backoff"
        await asyncio.sleep(1)
        found = await one.token()
        assert isinstance(found, Waiting)
        assert found.until_s > time.time()
        assert vendor.counts().by_operation["token"] <= 3
        vendor.script("token")
        assert (await eventually(one, AccessToken)).version == 2
    assert vendor.desk_counts().alive


async def test_a_refused_grant_needs_consent_and_only_its_own_gate_closes(
    redis: "Redis", vendor: VendorProcess
) -> None:
    vendor.revoke()
    async with bench(redis, vendor.url, refreshing()) as one:
        assert isinstance(await one.token(), NeedsConsent)
        assert isinstance(await one.token(), NeedsConsent)
        assert isinstance(await one.source.check(one.credential), NeedsConsent)
        assert (await gate(redis) or {})["detail"] == "the vendor does not accept the grant any more"
        assert await redis.hkeys("{s0}:gates") == [b"@crm|main"]
        alerts = [event for event in await events(redis, "gateway-alerts") if event["type"] == "token.needs_consent"]
        assert [alert["data"]["action"] for alert in alerts] == ["sluice connections authorize crm/main"]
        vendor.consent("refresh-new")
        assert isinstance(await one.source.give(one.credential, Secret("refresh-new")), AccessToken)
        assert await gate(redis) is None
        assert isinstance(await one.token(), AccessToken)
    moves = [(event["data"]["from"], event["data"]["to"]) for event in await events(redis)]
    assert [(before, after) for before, after in moves if after not in MOVES[TokenState(before)]] == []
    assert moves[:2] == [("active", "refreshing"), ("refreshing", "needs_consent")]
    assert moves[-1] == ("refreshing", "active")


async def test_a_client_that_is_not_accepted_marks_its_own_connection(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, CLIENT, secrets={"client_secret": "wrong"}) as one:
        found = await one.token()
        assert isinstance(found, ConfigError)
        assert "client" in found.reason
        assert (await one.store.read(NAME)).state == "config_error"
        assert isinstance(await one.token(), ConfigError)
    assert vendor.desk_counts().requests == 1
    async with bench(redis, vendor.url, CLIENT) as mended:
        known = Catalog(operations={"crm.echo": mended.operation}, connections={"crm/main": mended.connection})
        care = TokenCare(mended.source, mended.store.agree, lambda: known)
        await care.run()
        await care.run()
        assert vendor.desk_counts().granted == {"client_credentials": 1}
        assert isinstance(await mended.token(), AccessToken)
    assert await gate(redis) is None


async def test_an_invalid_grant_that_another_has_replaced_is_none(redis: "Redis", vendor: VendorProcess) -> None:
    """A worker that was asleep with an old refresh token in its hands finds the new one."""
    vendor.desk(DeskRequest(rotation="strict", refresh_token="refresh-1"))
    vendor.script("token", Behaviour(do=Kind.HOLD, count=1))
    async with bench(redis, vendor.url, refreshing("strict")) as one:
        sleeper = asyncio.create_task(one.token())
        await vendor.aio.until(held=1)
        async with bench(redis, vendor.url, refreshing("strict"), "person") as person:
            assert isinstance(await person.source.give(person.credential, Secret("refresh-1")), AccessToken)
        vendor.release()
        await sleeper
        assert isinstance(await one.token(), AccessToken)
        assert (await one.store.read(NAME)).state == "active"


@pytest.mark.parametrize("rotation", ["grace", "strict"])
async def test_an_answer_that_is_lost_after_rotation(redis: "Redis", vendor: VendorProcess, rotation: Any) -> None:
    vendor.desk(DeskRequest(rotation=rotation, lifetime=2))
    async with bench(redis, vendor.url, refreshing(rotation)) as one:
        first = await one.token()
        vendor.script("token", Behaviour(do=Kind.CLOSE, executes=True))
        await asyncio.sleep(1.6)
        while (await one.store.read(NAME)).state not in {"in_doubt", "active"} or vendor.desk_counts().requests < 2:
            found = await one.token()
            await asyncio.sleep(0.02)
        if rotation == "grace":
            found = await eventually(one, AccessToken)
            while found.version == first.version:
                await asyncio.sleep(0.05)
                found = await eventually(one, AccessToken)
            books = vendor.desk_counts()
            assert (books.alive, books.repeats, books.reuses) == (True, 1, 0)
        else:
            # As long as the old access token lives nothing is tried: a repeat would end that as well.
            assert (await one.token()).version == first.version
            assert isinstance(await eventually(one, NeedsConsent), NeedsConsent)
            assert vendor.desk_counts().reuses == 1


async def test_a_401_refreshes_once_and_then_rests(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, CLIENT, "a") as a, bench(redis, vendor.url, CLIENT, "b") as b:
        first = await a.token()
        await b.token()
        for one in (a, b, a):
            await one.source.report_401(one.operation, one.connection, first.version)
        second = [await one.token() for one in (a, b)]
        assert [token.version for token in second] == [2, 2]
        await a.source.report_401(a.operation, a.connection, 1)
        assert vendor.desk_counts().requests == 2
        await a.source.report_401(a.operation, a.connection, 2)
        found = await a.token()
        assert isinstance(found, Waiting)
        assert found.until_s > time.time() + 1
        assert (await a.store.read(NAME)).state == "backoff"
    assert vendor.desk_counts().requests == 2


async def test_the_vendors_host_is_not_asked_for_what_is_bound_to_another(
    redis: "Redis", vendor: VendorProcess
) -> None:
    async with bench(redis, vendor.url, CLIENT, hosts=["api.example.com"]) as one:
        found = await one.token()
    assert isinstance(found, ConfigError)
    assert "allow_hosts" in found.reason
    assert vendor.desk_counts().requests == 0


async def test_a_redirect_is_not_followed_and_a_flood_not_read(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, CLIENT) as one:
        vendor.script("token", Behaviour(do=Kind.GZIP_BOMB, size=50_000_000))
        assert isinstance(await one.token(), Waiting)
        vendor.script("token", Behaviour(do=Kind.REDIRECT, url=f"{vendor.url}/v1/echo", forever=True))
        assert isinstance(await one.source.check(one.credential), ConfigError)
    assert "echo" not in vendor.counts().by_operation


async def test_a_slow_endpoint_holds_no_call_for_long(redis: "Redis", vendor: VendorProcess) -> None:
    vendor.script("token", Behaviour(do=Kind.HANG, forever=True, point=Point.BEFORE))
    async with bench(redis, vendor.url, CLIENT, timeout_s=1.6) as one:
        began = time.monotonic()
        assert isinstance(await one.token(), Waiting)
        assert time.monotonic() - began < 1.4


async def test_an_access_token_that_the_vendor_ends_early_is_replaced_once(
    redis: "Redis", vendor: VendorProcess
) -> None:
    vendor.auth("oauth2")
    async with (
        bench(redis, vendor.url, refreshing("strict")) as one,
        aiohttp.ClientSession(vendor.url) as session,
    ):
        vendor.desk(DeskRequest(rotation="strict"))

        async def call() -> int:
            token = await one.token()
            async with session.get("/v1/echo", headers={"Authorization": f"Bearer {token.value.reveal()}"}) as answer:
                one.source.tried(one.operation, one.connection, token.version, accepted=answer.status != 401)
                if answer.status == 401:
                    await one.source.report_401(one.operation, one.connection, token.version)
                return answer.status

        assert await call() == 200
        await vendor.aio.expire()
        assert set(await asyncio.gather(*(call() for _ in range(20)))) == {401}
        assert set(await asyncio.gather(*(call() for _ in range(20)))) == {200}
    assert (vendor.desk_counts().requests, vendor.desk_counts().alive) == (2, True)


@pytest.mark.parametrize("skew_s", [600.0, -600.0])
async def test_a_clock_that_is_wrong_by_minutes_changes_nothing(
    redis: "Redis", vendor: VendorProcess, skew_s: float
) -> None:
    vendor.desk(DeskRequest(lifetime=2, rotation="strict"))

    def clock() -> float:
        return time.time() + skew_s

    async with (
        bench(redis, vendor.url, refreshing("strict"), "right") as right,
        bench(redis, vendor.url, refreshing("strict"), "wrong", clock=clock) as wrong,
    ):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert isinstance(await right.token(), AccessToken)
            found = await wrong.source.token_for(wrong.operation, wrong.connection, clock())
            assert isinstance(found, AccessToken)
            await asyncio.sleep(0.01)
        version = (await right.store.read(NAME)).version
    books = vendor.desk_counts()
    assert books.requests == version
    assert 2 <= version <= 4
    assert (books.reuses, books.alive) == (0, True)


async def test_a_hit_costs_a_look_up(redis: "Redis", vendor: VendorProcess) -> None:
    async with bench(redis, vendor.url, CLIENT) as one:
        await one.token()
        now = time.time()
        began = time.perf_counter()
        for _ in range(20_000):
            await one.source.token_for(one.operation, one.connection, now)
        assert (time.perf_counter() - began) / 20_000 < 20e-6
    assert vendor.desk_counts().requests == 1
