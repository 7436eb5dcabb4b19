"""Proves the vendor's own limit, its response times, and its count of what is open at once."""

import asyncio
import time
from email.utils import parsedate_to_datetime
from random import Random
from statistics import fmean, median

import aiohttp
import msgspec
import pytest

from tests.vendor.client import VendorProcess, VendorRefused
from tests.vendor.latency import Latency, Shape
from tests.vendor.limiter import Limiter, LimitRequest
from tests.vendor.record import busiest, crowd, overflows
from tests.vendor.script import Behaviour, Kind, Script

pytestmark = pytest.mark.wire

SECOND = 1_000_000
WALL = 1_800_000_000 * SECOND


async def statuses(session: aiohttp.ClientSession, times: int, path: str = "/v1/echo") -> list[int]:
    found = []
    for _ in range(times):
        async with session.get(path) as response:
            found.append(response.status)
    return found


# ---- the limit, as a rule


def judged(limiter: Limiter, *moments: int) -> list[bool]:
    return [limiter.judge(at, WALL + at).refused for at in moments]


def test_a_window_slides_and_two_arrivals_a_whole_window_apart_do_not_share_it() -> None:
    limiter = Limiter(LimitRequest(most=2))
    assert judged(limiter, 0, 10, 999_999, 1_000_000, 1_000_009, 1_000_010) == [False, False, True, False, True, False]


def test_what_is_let_through_is_never_over_by_the_count_that_tests_use() -> None:
    limiter, dice = Limiter(LimitRequest(most=7)), Random(1)
    times = sorted(dice.randrange(20 * SECOND) for _ in range(1_000))
    passed = [at for at in times if not limiter.judge(at, WALL + at).refused]
    assert busiest(passed, SECOND) == 7
    assert overflows(passed, 7, SECOND) == 0
    assert overflows(passed, 6, SECOND) > 0
    assert len(passed) > 19 * 6


def test_a_refusal_costs_nothing_unless_the_vendor_counts_it() -> None:
    moments = (0, 600_000, 1_100_000)
    assert judged(Limiter(LimitRequest(most=1)), *moments) == [False, True, False]
    assert judged(Limiter(LimitRequest(most=1, counts_refused=True)), *moments) == [False, True, True]


def test_another_application_spends_of_the_same_budget() -> None:
    limiter = Limiter(LimitRequest(most=5))
    limiter.spend(4, 100)
    assert judged(limiter, 200, 300, 1_000_100) == [False, True, False]
    limiter.spend(50, 1_000_200)
    assert judged(limiter, 1_000_300, 2_000_199, 2_000_200) == [True, True, False]


def test_a_closed_period_refuses_what_the_budget_would_allow() -> None:
    limiter = Limiter(LimitRequest(most=5))
    limiter.shut(3 * SECOND)
    verdict = limiter.judge(SECOND, WALL)
    assert verdict.refused
    assert verdict.headers["Retry-After"] == "2"
    assert judged(limiter, 3 * SECOND - 1, 3 * SECOND) == [True, False]


@pytest.mark.parametrize(
    ("retry_after", "told"),
    [
        ("{seconds}", "10"),
        ("{date}", "Fri, 15 Jan 2027 08:00:10 GMT"),
        ("2", "2"),
        ("0", "0"),
        ("soon", "soon"),
        (None, None),
    ],
)
def test_a_refusal_tells_of_the_next_free_place_or_says_what_it_is_told_to(
    retry_after: str | None, told: str | None
) -> None:
    limiter = Limiter(LimitRequest(most=2, window=10, retry_after=retry_after))
    first, second = limiter.judge(0, WALL), limiter.judge(400_000, WALL + 400_000)
    third = limiter.judge(500_000, WALL + 500_000)
    assert [verdict.headers["X-RateLimit-Remaining"] for verdict in (first, second, third)] == ["1", "0", "0"]
    assert [verdict.refused for verdict in (first, second, third)] == [False, False, True]
    assert third.headers["X-RateLimit-Limit"] == "2"
    assert third.headers["X-RateLimit-Reset"] == str(WALL // SECOND + 10)
    assert third.headers.get("Retry-After") == told
    assert "Retry-After" not in second.headers
    if retry_after == "{date}":
        assert parsedate_to_datetime(third.headers["Retry-After"]).timestamp() == WALL // SECOND + 10


def test_a_limit_can_keep_its_count_to_itself() -> None:
    assert dict(Limiter(LimitRequest(most=1, told=False)).judge(0, WALL).headers) == {}


def test_a_limit_of_nothing_refuses_everything() -> None:
    assert judged(Limiter(LimitRequest(most=0)), 0, 5 * SECOND) == [True, True]


# ---- the limit, over real sockets


async def test_the_vendor_enforces_its_limit_and_counts_what_it_refused(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.limit(LimitRequest(most=2, window=30, retry_after="7"))
    assert await statuses(vendor_session, 3) == [200, 200, 429]
    async with vendor_session.post("/v1/messages", json={"ref": "r"}) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "7"
        assert response.headers["X-RateLimit-Remaining"] == "0"
    counts = vendor.counts()
    assert (counts.arrivals, counts.refused, counts.effects_total) == (4, 2, 0)
    assert counts.statuses == {"200": 2, "429": 2}
    assert [arrival.ref for arrival in vendor.arrivals("messages.send")] == ["r"], "a refused request is read too"


async def test_a_limit_of_one_operation_leaves_the_others_alone(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.limit(LimitRequest(most=10, window=30))
    vendor.limit(LimitRequest(most=1, window=30, operation="contacts.get"))
    assert await statuses(vendor_session, 2, "/v1/contacts/c1") == [200, 429]
    assert await statuses(vendor_session, 2) == [200, 200]
    vendor.spend(8)
    assert await statuses(vendor_session, 1) == [429]
    vendor.reset()
    assert await statuses(vendor_session, 1) == [200]
    assert vendor.counts().refused == 0


async def test_a_closed_period_ends_by_itself(vendor: VendorProcess, vendor_session: aiohttp.ClientSession) -> None:
    vendor.limit(LimitRequest(most=100))
    vendor.shut(0.2)
    assert await statuses(vendor_session, 1) == [429]
    await asyncio.sleep(0.2)
    assert await statuses(vendor_session, 1) == [200]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("limit", {"most": -1}),
        ("limit", {"most": 1, "window": 0}),
        ("limit", {"most": 1, "operation": "messages.sent"}),
        ("limit", {"most": 1, "per": "operation"}),
        ("spend", {"units": 1, "operation": "big"}),
        ("shut", {"seconds": 1, "operation": "big"}),
    ],
)
def test_a_limit_with_a_mistake_is_refused(vendor: VendorProcess, verb: str, body: dict[str, object]) -> None:
    with pytest.raises(VendorRefused, match="400"):
        vendor._call("POST", verb, body)


# ---- response times


@pytest.mark.parametrize(
    ("latency", "mean", "most"),
    [
        (Latency(median=0.05), 0.05, 0.05),
        (Latency(shape=Shape.LOGNORMAL, median=0.05, sigma=0.6), 0.0599, 0.6),
        (Latency(shape=Shape.PARETO, median=0.05, alpha=1.2, cap=2.0), 0.1086, 2.0),
    ],
)
def test_a_distribution_has_its_median_its_mean_and_its_tail(latency: Latency, mean: float, most: float) -> None:
    dice = Random(3)
    drawn = [latency.draw(dice) for _ in range(50_000)]
    assert median(drawn) == pytest.approx(0.05, rel=0.03)
    assert fmean(drawn) == pytest.approx(mean, rel=0.05)
    assert max(drawn) <= most
    assert max(drawn) == most or latency.shape is Shape.LOGNORMAL


@pytest.mark.parametrize("wrong", [{"median": -1}, {"median": 1, "sigma": -1}, {"median": 1, "alpha": 0}])
def test_a_distribution_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError, match="or more"):
        msgspec.convert(wrong, Latency)


def test_response_times_are_seeded_and_differ_from_arrival_to_arrival() -> None:
    def run(seed: int) -> list[float]:
        script = Script()
        slow = Latency(shape=Shape.LOGNORMAL, median=0.1)
        script.set("*", [Behaviour(do=Kind.DELAY, latency=slow, seed=seed, forever=True)])
        return [script.choose("echo").seconds for _ in range(50)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert len(set(run(1))) == 50


async def test_the_vendor_takes_its_time_and_writes_down_how_long(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("echo", Behaviour(do=Kind.DELAY, latency=Latency(median=0.05), forever=True))
    started = time.monotonic()
    assert await statuses(vendor_session, 3) == [200, 200, 200]
    took = time.monotonic() - started
    stays = [(arrival.done_us or 0) - arrival.mono_us for arrival in vendor.arrivals()]
    assert all(50_000 <= stay < 250_000 for stay in stays)
    assert sum(stays) / SECOND <= took


# ---- what is open at once


def test_overlapping_spans_are_counted_and_those_that_only_touch_are_not() -> None:
    assert crowd([]) == 0
    assert crowd([(0, 10), (10, 20)]) == 1
    assert crowd([(0, 10), (9, 20), (9, 9)]) == 2
    assert crowd([(0, None), (5, 6), (100, None)]) == 2


async def test_the_vendor_counts_its_own_open_requests(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.list", Behaviour(do=Kind.DELAY, seconds=0.15, forever=True))
    await asyncio.gather(*(statuses(vendor_session, 1, "/v1/messages") for _ in range(5)))
    await statuses(vendor_session, 2)
    assert vendor.most_open() == 5
    assert vendor.most_open("echo") == 1
    assert vendor.most_open("big") == 0


async def test_a_caller_that_has_gone_leaves_its_request_open_until_the_vendor_is_done(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.list", Behaviour(do=Kind.DELAY, seconds=0.3))
    with pytest.raises(TimeoutError):
        await vendor_session.get("/v1/messages", timeout=aiohttp.ClientTimeout(total=0.05))
    assert vendor.arrivals()[0].done_us is None
    await asyncio.sleep(0.4)
    (arrival,) = vendor.arrivals()
    assert arrival.done_us is not None
    assert arrival.done_us - arrival.mono_us >= 299_000  # the timer of a loop rounds


# ---- its precision


async def test_five_hundred_arrivals_a_second_are_stamped_when_they_came(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    sent: dict[int, tuple[int, int]] = {}

    async def call(number: int) -> None:
        await asyncio.sleep(number / 500)
        before = time.monotonic_ns() // 1_000
        async with vendor_session.get("/v1/contacts/c1", headers={"Idempotency-Key": str(number)}):
            pass
        sent[number] = (before, time.monotonic_ns() // 1_000)

    await asyncio.gather(*(call(number) for number in range(500)))
    stamps = {int(arrival.key or 0): arrival.mono_us for arrival in vendor.arrivals()}
    assert len(stamps) == 500
    for number, (before, after) in sent.items():
        assert before <= stamps[number] <= after, "one clock for the whole machine"
    assert median(stamps[number] - before for number, (before, _) in sent.items()) < 20_000
