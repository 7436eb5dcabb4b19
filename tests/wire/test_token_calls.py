"""Calls that need tokens, through a whole gateway: who waits, why, who is told, and how often the vendor is asked."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from connectors.auth.found import ConfigError
from connectors.auth.token_source import credential
from connectors.catalog import load
from connectors.declared import Egress
from tests.authorized import CLIENT, SECRETS, WITHOUT_GRANT, declared
from tests.served import Served, assert_problem, served
from tests.vendor.client import VendorProcess
from tests.vendor.script import Behaviour, Kind
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.wire

DESK = DeskRequest(
    rotation="strict",
    client_id=SECRETS["client_id"],
    client_secret=SECRETS["client_secret"],
    refresh_token=SECRETS["refresh_token"],
)


def ready(vendor: VendorProcess, **more: Any) -> VendorProcess:
    """Open the vendor's desk for the declared client; only its tokens are good for calls."""
    vendor.desk(msgspec.structs.replace(DESK, **more))
    vendor.auth("oauth2")
    return vendor


@pytest.fixture
def other() -> Iterator[VendorProcess]:
    with VendorProcess() as process:
        yield ready(process)


async def told(redis: "Redis", topic: str, kind: str = "") -> list[dict[str, Any]]:
    """Return the data of the events of one type on a topic."""
    books: Any = redis
    events = [msgspec.json.decode(fields[b"data"]) for _, fields in await books.xrange(topic)]
    return [event["data"] for event in events if event["type"].startswith(kind)]


async def until(holds: Callable[[], Awaitable[Any]], timeout_s: float = 15.0) -> Any:
    give_up = time.monotonic() + timeout_s
    while not (seen := await holds()):
        assert time.monotonic() < give_up, seen
        await asyncio.sleep(0.05)
    return seen


async def publish(one: Served, numbers: range, **more: Any) -> list[str]:
    """Send calls without waiting for them, and return their ids."""
    calls = []
    for number in numbers:
        arguments = {"email": f"{more.get('connection', '')}{number}@b.c"}
        answer = await one.http.post("/v1/calls", json={"tool": "crm.contacts.create", "arguments": arguments, **more})
        assert answer.status_code == 202, answer.text
        calls.append(answer.json()["call"])
    return calls


async def looked(one: Served, call: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await one.http.get(f"/v1/calls/{call}")).json()
    return answer


async def ended(one: Served, calls: list[str], timeout_s: float = 20.0) -> list[dict[str, Any]]:
    """Wait for the ends of calls."""

    async def all_over() -> list[dict[str, Any]] | None:
        seen = [await looked(one, call) for call in calls]
        return seen if all("result" in call for call in seen) else None

    found: list[dict[str, Any]] = await until(all_over, timeout_s)
    return found


async def held(one: Served, calls: list[str], reason: str = "needs_consent") -> list[dict[str, Any]]:
    async def all_held() -> list[dict[str, Any]] | None:
        holds = [(await looked(one, call))["hold"] for call in calls]
        # One that was already under way comes back in a second; until then, too, it says what it really waits for.
        assert "backoff" not in {hold["reason"] for hold in holds}
        return holds if all(hold["reason"] == reason for hold in holds) else None

    found: list[dict[str, Any]] = await until(all_held)
    return found


async def test_a_revoked_grant_holds_its_own_calls_until_somebody_consents(
    redis: "Redis", redis_url: str, vendor: VendorProcess, other: VendorProcess, tmp_path: Path
) -> None:
    ready(vendor)
    text = declared(vendor.url, tmp_path, connections={"main": "", "second": other.url})
    async with served(redis_url, tmp_path / "data", text) as one:
        before = await ended(one, await publish(one, range(3), connection="main"))
        await vendor.aio.revoke()
        calls = await publish(one, range(100, 120), connection="main")
        holds = await held(one, calls)
        assert {hold["action"] for hold in holds} == {
            "An operator must renew the consent: sluice connections authorize crm/main (or: set)"
        }
        assert all("does not accept the grant" in hold["detail"] for hold in holds)
        flowing = await ended(one, await publish(one, range(5), connection="second"))
        asked, arrived = vendor.desk_counts().requests, vendor.counts().by_operation["contacts.create"]
        await asyncio.sleep(1.0)
        assert (vendor.desk_counts().requests, vendor.counts().by_operation["contacts.create"]) == (asked, arrived)
        assert asked == 2, "one request for the first token, and one that was refused"
        alerts = await told(redis, "gateway-alerts", "token.")
        assert [(alert["connection"], alert["action"]) for alert in alerts] == [
            ("main", "sluice connections authorize crm/main")
        ]
        await vendor.aio.consent("canary-refresh-1")
        given = await one.http.post("/v1/connections/crm/main/set", json={"refresh_token": "canary-refresh-1"})
        assert given.json()["worked"], given.text
        after = await ended(one, calls)
    assert {call["state"] for call in (*before, *flowing, *after)} == {"completed"}
    counts = vendor.counts()
    assert (counts.effects_total, counts.repeated_effects) == (23, [])
    assert len(await told(redis, "gateway-alerts", "token.")) == 1


async def test_a_token_that_is_refused_all_the_time_is_no_storm_and_spends_no_attempt(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    """The desk gives tokens, and the API takes none: each version is tried by one call, and the pauses grow."""
    ready(vendor)
    vendor.auth("bearer", "another")
    async with served(redis_url, tmp_path / "data", declared(vendor.url, tmp_path)) as one:
        await one.http.post("/v1/lanes/pause", json={"connector": "crm", "reason": "all at once"})
        calls = await publish(one, range(30))
        await one.http.post("/v1/lanes/resume", json={"connector": "crm"})
        await vendor.aio.until(arrivals=30 + 2 + 3)
        await asyncio.sleep(1.0)
        refused = len(await vendor.aio.arrivals("contacts.create"))
        await vendor.aio.auth("oauth2")
        ends = await ended(one, calls)
    requests = [arrival.mono_us / 1e6 for arrival in vendor.arrivals("token")]
    # The first token was good as far as anybody knew, so all calls used it; each of the two after it was tried by one.
    assert refused == 30 + 2
    pauses = [late - early for early, late in pairwise(requests)]
    assert len(pauses) == 3
    assert pauses[0] < 1.0, "a token that was refused once is replaced at once"
    assert 1.9 < pauses[1] < pauses[2] + 0.2, "and then there are pauses, which grow"
    assert {(call["state"], call["effect"]) for call in ends} == {("completed", "executed")}
    assert vendor.counts().effects_total == 30
    assert vendor.desk_counts().requests == 4
    moves = [(move["from"], move["to"]) for move in await told(redis, "tool-events", "token.changed")]
    assert ("active", "backoff") in moves
    assert vendor.desk_counts().alive


async def test_a_right_that_is_missing_is_no_reason_for_a_new_token(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    ready(vendor)
    lacking = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    vendor.script("contacts.create", Behaviour(do=Kind.STATUS, status=403, headers=lacking, body={}, forever=True))
    async with served(redis_url, tmp_path / "data", declared(vendor.url, tmp_path)) as one:
        (end,) = await ended(one, await publish(one, range(1)))
    assert (end["state"], end["effect"]) == ("failed", "not_executed")
    assert vendor.desk_counts().requests == 1


async def test_a_credential_follows_no_redirect(
    redis: "Redis", redis_url: str, vendor: VendorProcess, other: VendorProcess, tmp_path: Path
) -> None:
    """Neither that of the API nor that of the token endpoint, which is a host that the connector may call, too."""
    ready(vendor)
    vendor.script("contacts.create", Behaviour(do=Kind.REDIRECT, url=f"{other.url}/v1/contacts", forever=True))
    async with served(redis_url, tmp_path / "data", declared(vendor.url, tmp_path)) as one:
        (redirected,) = await ended(one, await publish(one, range(1)))
        await vendor.aio.script("token", Behaviour(do=Kind.REDIRECT, url=f"{other.url}/oauth/token", forever=True))
        moved = await one.http.post("/v1/connections/crm/main/check")
        (hold,) = await held(one, await publish(one, range(1)))
    assert (redirected["state"], redirected["error"]["class"]) == ("failed", "http.3xx")
    assert "token_url" in moved.json()["detail"], moved.text
    assert "sluice connections check crm/main" in hold["detail"]
    assert other.counts(names=False).arrivals == 0


async def test_a_connection_does_not_take_a_credential_to_another_host(
    redis: "Redis", redis_url: str, vendor: VendorProcess, other: VendorProcess, tmp_path: Path
) -> None:
    """A manifest that says so is refused as a whole; and what got past that would be stopped before the credential is put on."""
    ready(vendor)
    text = declared(vendor.url, tmp_path, connections={"main": other.url})
    bound = text.replace('allow_hosts: ["127.0.0.1"]', f'allow_hosts: ["{vendor.url.removeprefix("http://")}"]')
    (tmp_path / "m.yaml").write_text(bound)
    loaded = load([tmp_path / "m.yaml"], {})
    assert any("egress.allow_hosts" in str(problem) for problem in loaded.errors)
    assert not loaded.catalog.connections
    async with served(redis_url, tmp_path / "data", text) as one:
        operation = one.gateway.catalog().operations["crm.contacts.create"]
        narrow = Egress(allow_hosts=(vendor.url.removeprefix("http://"),), allow_private=True)
        object.__setattr__(operation, "egress", narrow)
        (strayed,) = await ended(one, await publish(one, range(1)))
        checked = await one.gateway.guarding.guards.tokens.check(
            credential(operation, one.gateway.catalog().connections["crm/main"])
        )
    assert strayed["error"]["class"] == "egress.blocked", strayed
    assert isinstance(checked, ConfigError)
    assert "allow_hosts" in checked.reason
    assert other.counts(names=False).arrivals == 0


@pytest.mark.parametrize("lost", ["client_secret", "client_id", "refresh_token"])
async def test_a_missing_secret_is_named_and_nobody_is_asked(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path, lost: str
) -> None:
    ready(vendor)
    async with served(redis_url, tmp_path / "data", declared(vendor.url, tmp_path, lost=lost)) as one:
        listed = (await one.http.get("/v1/connections")).json()["connections"][0]
        checked = await one.http.post("/v1/connections/crm/main/check")
        refused = await one.publish("crm.contacts.create", {"email": "a@b.c"})
    assert f"lacks its secret {lost}" in listed["detail"], listed
    assert not checked.json()["worked"]
    problem = assert_problem(refused, 422, "token.config")
    assert f"lacks its secret {lost}" in problem["detail"]
    assert not [answer.text for answer in (checked, refused) if "canary" in answer.text]
    assert vendor.desk_counts().requests == 0
    assert vendor.counts(names=False).arrivals == 0


async def test_nobody_has_consented_yet(redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path) -> None:
    ready(vendor)
    text = declared(vendor.url, tmp_path, names=WITHOUT_GRANT)
    async with served(redis_url, tmp_path / "data", text) as one:
        calls = await publish(one, range(3))
        assert {hold["action"].partition(": ")[2] for hold in await held(one, calls)} == {
            "sluice connections authorize crm/main (or: set)"
        }
        assert vendor.desk_counts().requests == 0
        given = await one.http.post("/v1/connections/crm/main/set", json={"refresh_token": "canary-refresh-0"})
        assert given.json()["worked"]
        assert {call["state"] for call in await ended(one, calls)} == {"completed"}


async def test_no_secret_leaves_by_any_way(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The vendor repeats whatever it knows: our tokens in a result and an error, our client in the refusal of a grant."""
    ready(vendor)
    async with served(redis_url, tmp_path / "data", declared(vendor.url, tmp_path)) as one:
        said = [await one.publish("crm.contacts.create", {"email": "a@b.c"})]
        access = next(token for token in vendor.desk_counts().issued if token.startswith("access"))
        known = {"id": access, "email": f"{SECRETS['client_secret']} {SECRETS['refresh_token']}"}
        for status in (200, 422):
            await vendor.aio.script("contacts.create", Behaviour(do=Kind.STATUS, status=status, body=known))
            said.append(await one.publish("crm.contacts.create", {"email": f"{status}@b.c"}))
            said.append(await one.http.get(f"/v1/calls/{said[-1].json()['call']}"))
        rude = {
            "error": "invalid_grant",
            "error_description": str(known),
            "error_uri": vendor.desk_counts().refresh_token,
        }
        await vendor.aio.script("token", Behaviour(do=Kind.STATUS, status=400, body=rude))
        said.append(await one.http.post("/v1/connections/crm/main/check"))
        calls = await publish(one, range(2))
        await held(one, calls)
        said += [
            await one.http.get(path)
            for path in ("/v1/connections", "/v1/lanes", "/metrics", "/openapi.json", f"/v1/calls/{calls[0]}")
        ]
    texts = {str(answer.url): answer.text for answer in said}
    assert [call.json()["state"] for call in said[1::2][:2]] == ["completed", "failed"]
    texts["log"] = "".join(capfd.readouterr())
    books: Any = redis
    for topic in ("tool-calls", "tool-results", "tool-events", "dead-letters", "gateway-alerts"):
        texts[topic] = repr(await books.xrange(topic))
    for top in (Path(redis_url.removeprefix("unix://")).parent, tmp_path / "data"):
        texts |= {str(path): path.read_bytes().decode("latin-1") for path in top.rglob("*") if path.is_file()}
    needles = [*SECRETS.values(), *vendor.desk_counts().issued]
    assert [(place, needle) for place, text in texts.items() for needle in needles if needle in text] == []
    assert any(place.endswith(".aof") for place in texts)
    assert len(texts["dead-letters"]) > 100
    assert "token.changed" in texts["log"]
    assert 'sluice_token_transitions_total{connection="main",connector="crm",state="needs_consent"}' in "".join(
        texts.values()
    )


# ---- Redis forgets


@asynccontextmanager
async def forgetful(redis_url: str, vendor: VendorProcess, folder: Path, **more: Any) -> AsyncIterator[Served]:
    ready(vendor, **more)
    rotation = more.get("rotation", "strict")
    async with served(redis_url, folder / "data", declared(vendor.url, folder, rotation=rotation)) as one:
        assert (await ended(one, await publish(one, range(1))))[0]["state"] == "completed"
        yield one


@pytest.mark.parametrize("rotation", ["strict", "grace"])
async def test_a_forgotten_grant_is_said_and_an_old_one_not_used_again(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path, rotation: Any
) -> None:
    async with forgetful(redis_url, vendor, tmp_path, rotation=rotation) as one:
        await redis.flushall()

        async def alerted() -> list[dict[str, Any]]:
            return await told(redis, "gateway-alerts", "token.needs_consent")

        assert "forgotten" in (await until(alerted))[0]["detail"]
        calls = await publish(one, range(10, 15))
        holds = await held(one, calls)
        assert all("forgotten" in hold["detail"] for hold in holds)
        assert (vendor.desk_counts().requests, vendor.desk_counts().reuses) == (1, 0)
        assert vendor.desk_counts().alive, "nothing that the vendor could take for theft was sent"
        assert len(await alerted()) == 1
        await vendor.aio.consent("canary-refresh-1")
        await one.http.post("/v1/connections/crm/main/set", json={"refresh_token": "canary-refresh-1"})
        assert {call["state"] for call in await ended(one, calls)} == {"completed"}


async def test_a_client_without_a_grant_just_asks_again_when_redis_has_forgotten(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    ready(vendor)
    async with served(
        redis_url, tmp_path / "data", declared(vendor.url, tmp_path, auth=CLIENT, names=WITHOUT_GRANT)
    ) as one:
        await ended(one, await publish(one, range(1)))
        await redis.flushall()
        await until(lambda: told(redis, "gateway-alerts", "gateway.epoch_lost"))
        assert (await ended(one, await publish(one, range(5, 8))))[0]["state"] == "completed"
    assert vendor.desk_counts().requests <= 2
    assert await told(redis, "gateway-alerts", "token.") == []
