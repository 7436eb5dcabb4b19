"""Pacing by the vendor's own counts: real workers on a real Redis, and never an arrival over a limit, in any window."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.faults.cases import CONSTANT, HEAVY_TAIL, LOGNORMAL, Case, Pace, Stream, three_latencies
from tests.faults.conftest import SHORT
from tests.faults.paced import Nemesis, Run, Scene, run_case
from tests.vendor.latency import Latency
from tests.vendor.limiter import LimitRequest
from tests.vendor.record import busiest

pytestmark = pytest.mark.faults

TWENTY = Pace(most=20)
US = 1_000_000

MINUTE = Case(
    name="two limits",
    workers=2,
    paces=(TWENTY, Pace(most=60, window_s=60)),
    streams=(Stream(operation="contacts.create", calls=75),),
    patience_s=90,
)
"""The second's limit binds for three seconds, then the minute's: the last calls have to wait for the first ones' minute."""


@pytest.fixture(scope="module", autouse=True)
def minute(request: pytest.FixtureRequest) -> Iterator["Future[Run] | None"]:
    """The case that mostly waits, staged beside all the others, when it is wanted at all."""
    wanted = any(item.name == "test_a_minute_and_a_second_are_both_kept" for item in request.session.items)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run_case, MINUTE) if wanted else None


def show(run: Run) -> None:
    for row in run.rows:
        print(row)


def assert_all_completed(run: Run) -> None:
    """Every call has ended well, once, and no effect was repeated."""
    assert run.sums.received_is_explained, run.sums
    assert run.sums.accepted_is_explained, run.sums
    states = Counter(event["data"]["state"] for event in run.results)
    assert states == {"completed": sum(stream.calls for stream in run.case.streams)}
    assert run.counts.repeated_effects == run.counts.repeated_refs == []


# ---- saturated


def test_without_a_limit_the_same_load_is_far_over_it() -> None:
    """The oracle itself: were nothing paced, this is what the other tests would see."""
    run = run_case(
        Case(
            name="not paced",
            workers=1,
            enforced=False,
            paces=(TWENTY, Pace(most=4, window_s=0)),
            streams=(Stream(operation="contacts.get", calls=60),),
        )
    )
    show(run)
    rate, concurrency = run.rows
    assert rate.over == 40
    assert rate.worst == 60
    assert concurrency.over > 0


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_no_arrival_is_over_and_hardly_a_slot_is_idle(workers: int) -> None:
    run = run_case(three_latencies(workers, TWENTY, 120))
    show(run)
    assert {row.latency for row in run.rows} == {"constant", "lognormal", "pareto"}
    for row in run.rows:
        assert (row.arrivals, row.over) == (120, 0), row
        assert row.throughput is not None
        assert row.throughput >= 0.95, row
    assert_all_completed(run)


@pytest.mark.parametrize(("per", "budgets"), [("connector", 1), ("connection", 2), ("operation", 2)])
def test_a_budget_is_shared_by_all_that_its_scope_covers(per: str, budgets: int) -> None:
    """Two connections call the same two operations: whoever shares a budget shares it exactly."""
    streams = tuple(
        Stream(operation=operation, calls=25, latency=LOGNORMAL, connection=connection)
        for operation in ("contacts.create", "contacts.get")
        for connection in ("north", "south")
    )
    run = run_case(Case(name="shared", workers=4, paces=(Pace(most=20, per=per),), streams=streams))  # type: ignore[arg-type]
    show(run)
    assert [(row.arrivals, row.over) for row in run.rows] == [(100 // budgets, 0)] * budgets
    assert all(row.worst == 20 for row in run.rows), "no less than what is allowed, either"
    assert_all_completed(run)


def test_no_more_are_open_at_once_than_a_concurrency_allows() -> None:
    run = run_case(
        Case(
            name="concurrency",
            workers=4,
            paces=(Pace(most=4, window_s=0),),
            streams=(Stream(operation="contacts.get", calls=80, latency=HEAVY_TAIL),),
        )
    )
    show(run)
    (row,) = run.rows
    assert (row.worst, row.over) == (4, 0)
    assert row.throughput is not None
    assert row.throughput >= 0.7, "a place that is free is taken soon"
    assert_all_completed(run)


# ---- what goes wrong meanwhile


def test_workers_that_are_stopped_and_killed_take_no_slot_twice() -> None:
    run = run_case(
        Case(
            name="stopped and killed",
            workers=4,
            timeout="1s",
            paces=(TWENTY,),
            streams=(
                Stream(operation="contacts.create", calls=60, latency=LOGNORMAL),
                Stream(operation="contacts.get", calls=60, latency=CONSTANT),
            ),
            during=Nemesis(seconds=7),
        )
    )
    show(run)
    assert run.over == 0, run.rows
    assert_all_completed(run)


def test_a_worker_that_wakes_after_its_leases_sends_none_of_its_calls() -> None:
    """Its slots are about to be others': they come back one window after the end of the leases."""
    lease_s = float(SHORT["SLUICE_START_WITHIN"]) + 1.0 + float(SHORT["SLUICE_LEASE_GUARD"])

    def doze(scene: Scene) -> None:
        sleeper = scene.start_dozing()
        ends = time.monotonic() + lease_s + TWENTY.window_s - 0.1
        scene.start()
        scene.await_workers()
        time.sleep(ends - time.monotonic())
        sleeper.send_signal(signal.SIGCONT)

    streams = (Stream(operation="contacts.create", calls=50, latency=CONSTANT),)
    run = run_case(Case(name="dozing", workers=0, timeout="1s", paces=(TWENTY,), streams=streams, during=doze))
    show(run)
    assert run.over == 0
    assert run.counts.arrivals == 50, "what was claimed twice was sent once"
    assert_all_completed(run)


def test_limits_start_full_when_redis_has_forgotten_what_was_sent() -> None:
    stream = Stream(operation="contacts.get", calls=40)

    def forget(scene: Scene) -> None:
        # In the middle of a burst: what was sent just before would not be known any more.
        scene.vendor.until(arrivals=22)
        scene.books.flushall()
        scene.expected = 0
        scene.publish([stream])

    run = run_case(Case(name="forgotten", workers=4, timeout="1s", paces=(TWENTY,), streams=(stream,), during=forget))
    show(run)
    assert run.over == 0, run.rows
    assert run.sums["completed"] == 40
    assert 62 <= run.counts.arrivals <= 80


# ---- the vendor says "slow down"

THIRTY = Pace(most=30)
QUICK = Latency(median=0.02)


def refused_at(run: Run) -> list[int]:
    return sorted(arrival.done_us or 0 for arrival in run.arrivals if arrival.status == 429)


@pytest.mark.timed
def test_one_refusal_keeps_every_worker_away_for_as_long_as_the_vendor_says() -> None:
    """Another application uses up the vendor's budget; one attempt is all that a call has, and no refusal spends it."""

    def meddle(scene: Scene) -> None:
        scene.vendor.limit(LimitRequest(most=30, retry_after="2", told=False))
        scene.vendor.until(arrivals=70)
        scene.vendor.spend(30)

    streams = (Stream(operation="contacts.create", calls=130, latency=QUICK),)
    run = run_case(Case(name="refused", workers=4, max_attempts=1, paces=(THIRTY,), streams=streams, during=meddle))
    show(run)
    refusals = refused_at(run)
    told_us = refusals[0]
    early = [at - told_us for at in sorted(one.mono_us for one in run.arrivals) if 0 < at - told_us < 2 * US]
    print(f"{len(refusals)} refused; {len(early)} arrived after the first refusal, the last {max(early, default=0)} us")
    assert len(early) <= THIRTY.most, "what was under way had taken a slot before the refusal was known"
    assert max(early, default=0) < US // 4
    assert len(refusals) <= THIRTY.most
    assert run.over == 0
    assert sum(event["data"]["attempts"] for event in run.results) == run.counts.arrivals, (
        "a refusal is told, not spent"
    )
    assert_all_completed(run)


@pytest.mark.parametrize(("retry_after", "away_s"), [("0", 0.0), ("soon", 1.0)])
def test_a_refusal_that_says_nothing_useful_starts_no_storm(retry_after: str, away_s: float) -> None:
    """The vendor is closed for three seconds: at its worst it sees what was declared, and garbage is a second's pause."""

    def close(scene: Scene) -> None:
        scene.vendor.limit(LimitRequest(most=1_000, retry_after=retry_after, told=False))
        scene.vendor.until(arrivals=30)
        scene.vendor.shut(3)

    streams = (Stream(operation="contacts.get", calls=70, latency=QUICK),)
    run = run_case(Case(name="closed", workers=4, max_attempts=1, paces=(THIRTY,), streams=streams, during=close))
    show(run)
    refused = [arrival.mono_us for arrival in run.arrivals if arrival.status == 429]
    # What is under way when the first of a burst is refused comes at once; then there is a pause.
    pauses = [late - early for early, late in pairwise(refused) if late - early > US // 4]
    print(f"Retry-After {retry_after}: {len(refused)} refused in 3 s, pauses of {[pause / US for pause in pauses]} s")
    assert refused
    assert busiest(refused, US) <= THIRTY.most
    assert len([at for at in refused if at - refused[0] > US // 4]) <= 6, (
        "one call at a time finds out, ever more rarely"
    )
    assert all(pause >= away_s * US for pause in pauses)
    assert run.over == 0
    assert_all_completed(run)


# ---- last, because it has been waiting all the time


def test_a_minute_and_a_second_are_both_kept(minute: "Future[Run]") -> None:
    run = minute.result(timeout=110)
    show(run)
    second, whole_minute = run.rows
    assert (second.arrivals, second.over, second.worst) == (75, 0, 20)
    assert (whole_minute.over, whole_minute.worst) == (0, 60)
    assert_all_completed(run)
