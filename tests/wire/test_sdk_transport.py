"""Two real SDKs, unmodified, through the whole gateway in this process, by the vendor's counts."""

import asyncio
import hashlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.flow.status import Finale
from gateway.sdk.ending import CALL, REFUSED
from schemas.lifecycle import HoldReason
from tests.sdks import DUMMY, REAL, SDKS, Opened, Sdk, opened
from tests.vendor.client import VendorProcess
from tests.vendor.limiter import LimitRequest
from tests.vendor.script import Behaviour, Kind
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.wire

OUT = Behaviour(do=Kind.STATUS, status=503, forever=True)


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each of the two."""
    found: Sdk = request.param
    return found


@pytest.fixture
def data(redis: "Redis", tmp_path: Path) -> Path:
    """A data directory, on an empty Redis."""
    return tmp_path / "data"


def arrived(vendor: VendorProcess, operation: str = "chat.complete") -> int:
    return vendor.counts().by_operation.get(operation, 0)


def call_of(error: BaseException) -> str:
    found = re.search(r"\b[0-9A-HJKMNP-TV-Z]{26}\b", str(error.__cause__))
    assert found, error.__cause__
    return found[0]


async def state(one: Opened, call: str) -> str:
    view, _ = await one.gateway.status.wait(call, 5)
    assert isinstance(view, Finale)
    return str(view.data["state"])


async def everything(redis: "Redis") -> bytes:
    """Return all that Redis holds."""
    return (
        b"".join([await redis.dump(key) or b"" for key in await redis.keys("*")])
        + repr(
            [await redis.xrange(key) for key in await redis.keys("*") if await redis.type(key) == b"stream"]
            + [await redis.hgetall(key) for key in await redis.keys("*") if await redis.type(key) == b"hash"]
        ).encode()
    )


async def test_each_call_is_one_arrival_with_our_credential_and_the_vendors_own_answer(
    sdk: Sdk, redis: "Redis", redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    vendor.auth("bearer", REAL)
    async with opened(sdk, redis_url, data, vendor) as one:
        answers = await asyncio.gather(*(one.complete(f"n-{number}") for number in range(30)))
        model = await one.client.models.retrieve("m-7")
        stored = await everything(redis)
        files = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != "key")
    assert [answer.choices[0].message.content for answer in answers] == [f"You said: n-{n}" for n in range(30)]
    assert (model.id, model.owned_by) == ("m-7", "vendor")
    counts = vendor.counts()
    assert (counts.by_operation, counts.statuses) == ({"chat.complete": 30, "models.get": 1}, {"200": 31})
    assert (counts.effects_total, counts.repeated_refs) == (30, [])
    assert {arrival.credential_sha256 for arrival in vendor.arrivals()} == {hashlib.sha256(REAL.encode()).hexdigest()}
    for secret in (DUMMY, REAL):
        assert secret.encode() not in stored
        assert secret.encode() not in files


async def test_calls_are_paced_as_the_vendor_counts(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    vendor.limit(LimitRequest(most=5, window=1.0, told=False))
    async with opened(sdk, redis_url, data, vendor, limits="{calls: {rate: 5/s}}") as one:
        await asyncio.gather(*(one.complete(f"n-{number}") for number in range(12)))
    counts = vendor.counts()
    assert (arrived(vendor), counts.refused, counts.repeated_refs) == (12, 0, [])
    assert vendor.window(1.0) <= 5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (418, "APIStatusError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ],
)
async def test_a_refusal_is_the_sdks_own_error_with_the_vendors_body_and_comes_once(
    sdk: Sdk, redis: "Redis", redis_url: str, data: Path, vendor: VendorProcess, status: int, error: str
) -> None:
    body = {"error": {"message": "only-the-caller-may-read-this", "code": "c"}}
    headers = {"x-request-id": "req-7", "set-cookie": "a=b"}
    vendor.script("chat.complete", Behaviour(do=Kind.STATUS, status=status, body=body, headers=headers, forever=True))
    async with opened(sdk, redis_url, data, vendor) as one:
        with pytest.raises(getattr(sdk.errors, error)) as caught:
            await one.complete()
        response = caught.value.response
        assert (response.status_code, response.json(), response.headers["x-request-id"]) == (status, body, "req-7")
        assert "set-cookie" not in response.headers
        assert await state(one, response.headers[CALL]) in {"failed", "escalated"}
        assert b"only-the-caller-may-read-this" not in await everything(redis)
    assert arrived(vendor) == 1


async def test_slow_down_is_not_the_sdks_business_unless_it_cannot_wait(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    vendor.script("chat.complete", Behaviour(do=Kind.STATUS, status=429, headers={"Retry-After": "1"}))
    async with opened(sdk, redis_url, data, vendor) as one:
        began = time.monotonic()
        assert (await one.complete()).id
        assert time.monotonic() - began > 0.9
        assert arrived(vendor) == 2
        vendor.script("chat.complete", Behaviour(do=Kind.STATUS, status=429, headers={"Retry-After": "60"}))
        with pytest.raises(sdk.errors.RateLimitError) as caught:
            await one.complete(timeout=5.0)
        assert caught.value.response.headers["retry-after"] == "60"
        with pytest.raises(sdk.errors.APITimeoutError) as later:
            await one.client.with_options(max_retries=0).chat.completions.create(
                model="m-1", messages=[{"role": "user", "content": "x"}], timeout=1.0
            )
        assert "the vendor asked to wait" in str(later.value.__cause__)
    assert arrived(vendor) == 3


async def test_a_vendor_that_is_down_parks_calls_and_they_say_why(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    vendor.script("models.get", OUT)
    patient = {"client": {"max_retries": 0, "timeout": 1.5}}
    async with opened(sdk, redis_url, data, vendor, **patient) as one:
        ended = await asyncio.gather(*(one.client.models.retrieve(f"m-{n}") for n in range(10)), return_exceptions=True)
        assert {type(error) for error in ended} <= {sdk.errors.APITimeoutError, sdk.errors.InternalServerError}
        timeouts = [error for error in ended if isinstance(error, sdk.errors.APITimeoutError)]
        assert timeouts
        assert {type(error.__cause__) for error in timeouts} == {sdk.library.PoolTimeout}
        held = [str(error.__cause__) for error in timeouts if "breaker_open" in str(error.__cause__)]
        assert held, [str(error.__cause__) for error in timeouts]
        assert {await state(one, call_of(error)) for error in timeouts} <= {"cancelled", "expired"}
        before = arrived(vendor, "models.get")
        assert before <= 20
        vendor.script("models.get")
        well = one.other(timeout=20.0)
        assert (await well.models.retrieve("m-1")).id == "m-1"
        assert arrived(vendor, "models.get") == before + 1


async def test_a_token_that_ends_early_is_renewed_behind_the_sdk(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    vendor.desk(DeskRequest())
    vendor.auth("oauth2")
    data.mkdir(mode=0o700)
    for name, value in {"client_id": "client", "client_secret": "s3cret/with+signs"}.items():
        (data / name).write_text(value)
    oauth2 = {
        "auth": f'{{type: oauth2, grant: client_credentials, token_url: "{vendor.url}/oauth/token"}}',
        "secrets": f"{{client_id: '${{file:{data / 'client_id'}}}', client_secret: '${{file:{data / 'client_secret'}}}'}}",
    }
    async with opened(sdk, redis_url, data, vendor, **oauth2) as one:
        await one.complete("a")
        vendor.expire()
        await one.complete("b")
        await one.complete("c")
    assert (vendor.desk_counts().requests, vendor.counts().statuses.get("401")) == (2, 1)
    assert vendor.counts().effects_by_ref["chat.complete"] == {"a": 1, "b": 1, "c": 1}


OUTPUT = "class: safe, output: {type: object, required: [id, owner], properties: {owner: {type: string}}}"


@pytest.mark.parametrize("on_breaking", ["warn", "block"])
async def test_an_answer_that_breaks_its_contract_is_found_and_kept_back_if_that_is_wanted(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess, on_breaking: str
) -> None:
    model = f"{OUTPUT}, contract: {{on_breaking: {on_breaking}}}"
    async with opened(sdk, redis_url, data, vendor, model=model) as one:
        if on_breaking == "warn":
            assert (await one.client.models.retrieve("m-1")).id == "m-1"
        else:
            with pytest.raises(sdk.errors.APIConnectionError) as caught:
                await one.client.with_options(max_retries=0).models.retrieve("m-1")
            assert isinstance(caught.value.__cause__, sdk.library.RemoteProtocolError)
            assert "schema.breaking" in str(caught.value.__cause__)
        (found,) = [one for one in await one.gateway.guarding.findings.seen() if one.finding.level == "breaking"]
    assert found.count == arrived(vendor, "models.get") == 1


@pytest.mark.parametrize(
    ("behaviour", "raised", "cause"),
    [
        (Behaviour(do=Kind.RESET, executes=True, forever=True), "APIConnectionError", ("ReadError", "WriteError")),
        (Behaviour(do=Kind.CLOSE, executes=True, forever=True), "APIConnectionError", ("ReadError",)),
        (Behaviour(do=Kind.HANG, forever=True), "APITimeoutError", ("ReadTimeout",)),
        (Behaviour(do=Kind.TRUNCATE, forever=True), "APIConnectionError", ("ReadError",)),
        (Behaviour(do=Kind.GARBAGE, forever=True), "APIConnectionError", ("RemoteProtocolError",)),
    ],
    ids=lambda value: str(value.do) if isinstance(value, Behaviour) else "",
)
async def test_a_lost_answer_is_not_repeated_although_the_sdk_tries(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess, behaviour: Behaviour, raised: str, cause: Any
) -> None:
    vendor.script("chat.complete", behaviour)
    async with opened(sdk, redis_url, data, vendor, timeout="300ms", client={"max_retries": 1}) as one:
        with pytest.raises(getattr(sdk.errors, raised)) as caught:
            await one.complete()
        assert type(caught.value.__cause__).__name__ in cause
        assert await state(one, call_of(caught.value)) in {"escalated", "failed"}
    assert (arrived(vendor), vendor.counts().repeated_refs) == (1, [])


async def test_a_vendor_that_is_not_there_is_a_connect_error(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    with VendorProcess() as gone:
        async with opened(sdk, redis_url, data, gone, client={"max_retries": 0, "timeout": 1.5}) as one:
            gone.kill()
            with pytest.raises(sdk.errors.APIConnectionError) as caught:
                await one.complete()
    assert isinstance(caught.value.__cause__, sdk.library.ConnectError)
    assert call_of(caught.value)


async def test_patience_that_ends_between_attempts_leaves_the_effect_in_doubt(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    keyed = {"completion": "class: idempotent", "client": {"timeout": 2.0, "max_retries": 2}}
    async with opened(sdk, redis_url, data, vendor, **keyed) as one:
        vendor.script("chat.complete", Behaviour(do=Kind.CLOSE, executes=True, forever=True))
        with pytest.raises(sdk.errors.APIConnectionError) as caught:
            await one.complete()
        assert isinstance(caught.value.__cause__, sdk.library.ReadTimeout | sdk.library.ReadError)
        before = arrived(vendor)
        await asyncio.sleep(0.5)
        assert arrived(vendor) == before


async def test_a_key_of_the_sdk_makes_one_call_of_many(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    key: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "order-7"}}
    async with opened(sdk, redis_url, data, vendor) as one:
        answers = await asyncio.gather(*(one.complete(**key) for _ in range(5)))
        answers.append(await one.complete(**key))
        assert len({answer.id for answer in answers}) == 1
        with pytest.raises(sdk.errors.ConflictError) as caught:
            await one.complete("something else", **key)
        assert caught.value.response.headers[REFUSED] == "ingest.duplicate_conflict"
        vendor.script("chat.complete", Behaviour(do=Kind.STATUS, status=404, body={"error": {"code": "sealed"}}))
        for _ in range(2):
            with pytest.raises(sdk.errors.NotFoundError) as refused:
                await one.complete(extra_headers={"Idempotency-Key": "order-8"})
            assert refused.value.response.json() == {"error": {"code": "sealed"}}
    assert arrived(vendor) == 2


async def test_a_repeat_whose_answer_is_gone_from_memory_is_answered_from_what_is_kept(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    key: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "order-7"}}
    async with opened(sdk, redis_url, data, vendor) as one:
        first = await one.complete(**key)
    async with opened(sdk, redis_url, data, vendor) as one:
        assert (await one.complete(**key)) == first
    async with opened(sdk, redis_url, data, vendor, door={"agent": "somebody-else"}) as one:
        with pytest.raises(sdk.errors.ConflictError):
            await one.complete(**key)
    assert arrived(vendor) == 1


async def test_a_caller_that_goes_away_takes_its_call_with_it(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    async with opened(sdk, redis_url, data, vendor) as one:
        await one.gateway.lanes.close("@chat", HoldReason.PAUSED, for_us=0, detail="maintenance")
        tasks = [asyncio.create_task(one.complete(f"n-{n}")) for n in range(5)]
        async with asyncio.timeout(10):
            while (await one.gateway.lanes.stats())["live"] < 5:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.02)
        tasks.append(asyncio.create_task(one.complete("late")))
        await asyncio.sleep(0)
        left = set(tasks)
        async with asyncio.timeout(20):
            while left:  # before Python 3.12 `wait_for`, which libraries use, may swallow a cancellation
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=1)
        await one.door.close()
        assert (await one.gateway.lanes.stats())["live"] == 0
        await one.gateway.lanes.open("@chat", HoldReason.PAUSED)
        await asyncio.wait_for(one.complete("last"), 10)
    assert vendor.counts().effects_by_ref["chat.complete"] == {"last": 1}


async def test_a_pause_is_told_when_patience_ends_and_nothing_runs_later(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    async with opened(sdk, redis_url, data, vendor, client={"max_retries": 0, "timeout": 0.3}) as one:
        await one.gateway.lanes.close("@chat", HoldReason.NEEDS_CONSENT, for_us=0, detail="the grant has ended")
        with pytest.raises(sdk.errors.APITimeoutError) as caught:
            await one.complete()
        assert isinstance(caught.value.__cause__, sdk.library.PoolTimeout)
        assert "sluice connections authorize" in str(caught.value.__cause__)
        assert await state(one, call_of(caught.value)) in {"cancelled", "expired"}
        await one.gateway.lanes.open("@chat", HoldReason.NEEDS_CONSENT)
        await asyncio.sleep(0.3)
    assert arrived(vendor) == 0


async def test_what_is_not_declared_is_refused_with_the_line_that_is_missing(
    sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess
) -> None:
    async with opened(sdk, redis_url, data, vendor) as one:
        with pytest.raises(sdk.errors.BadRequestError) as caught:
            await one.client.models.list()
        told = caught.value.response.json()["error"]["message"]
        line = told.partition("Add to `operations` of the connector chat")[2].partition(": ")[2]
        files, path = {"file": ("a.txt", b"a")}, vendor.url + sdk.prefix + "/chat/completions"
        for more in ({"stream": True}, {"extra_headers": {"X-Beta": "1"}}, {"extra_query": {"deep": "1"}}):
            with pytest.raises(sdk.errors.BadRequestError) as caught:
                await one.complete(**more)
            assert caught.value.response.headers[REFUSED] == "sdk.undeclared"
        for body in ({"json": [1]}, {"content": b"x=1"}, {"files": files}, {"content": b"{"}, {}):
            answer = await one.client._client.post(path, **body)
            assert (answer.status_code, answer.headers[REFUSED]) == (400, "sdk.undeclared")
    assert vendor.counts().arrivals == 0
    manifests = (data / "manifests.yaml").read_text().replace("operations:\n", f"operations:\n  {line}\n")
    (data / "more.yaml").write_text(manifests)
    settings = one.gateway.settings.model_copy(update={"connectors": [data / "more.yaml"]})
    async with sdk.transport.open(settings, agent="tester") as transport:
        with pytest.raises(sdk.errors.NotFoundError):  # the vendor has no such list, and says so itself
            await sdk.client(transport, vendor.url).models.list()
    assert vendor.counts().arrivals == 1


async def test_an_agent_calls_what_it_may(sdk: Sdk, redis_url: str, data: Path, vendor: VendorProcess) -> None:
    key = data / "key"
    agent = f"---\napiVersion: sluice/v1\nkind: Agent\nmetadata: {{name: tester}}\nkey: ${{file:{key}}}\nallow: [chat.models.*]\n"
    async with opened(sdk, redis_url, data, vendor, more=agent) as one:
        assert (await one.client.models.retrieve("m-1")).id == "m-1"
        with pytest.raises(sdk.errors.PermissionDeniedError) as caught:
            await one.complete()
        assert caught.value.response.headers[REFUSED] == "ingest.scope"
    assert arrived(vendor) == 0
