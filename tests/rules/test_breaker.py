"""The way of one breaker, an operator's word, news of the fleet; and pybreaker's traps, none of which is stepped in."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from connectors.breaking.breaker import Breaker, Open, Permit
from connectors.breaking.standing import Mode, Standing, State, Word, overridden, phase
from connectors.breaking.terms import DEFAULT_TERMS, BreakerTerms
from connectors.breaking.verdict import VERDICTS, Verdict
from schemas.failure import Failure

OK, FAILED, NEUTRAL = Verdict.OK, Verdict.FAILED, Verdict.NEUTRAL
TERMS = DEFAULT_TERMS


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def breaker(**more: float) -> Breaker:
    terms = BreakerTerms(**{name: more.get(name, getattr(TERMS, name)) for name in TERMS.__slots__})
    return Breaker("crm|https://crm.test", terms, uniform=middle)


def permit(guard: Breaker, now: float) -> Permit:
    given = guard.admit(now)
    assert isinstance(given, Permit), given
    return given


def call(guard: Breaker, verdict: Verdict, now: float, **more: float) -> None:
    guard.settle(permit(guard, now), verdict, now, **more)


def tripped(now: float = 100.0) -> Breaker:
    guard = breaker()
    for _ in range(TERMS.consecutive):
        call(guard, FAILED, now)
    assert guard.standing.state is State.OPEN
    return guard


def test_a_503_that_names_a_time_keeps_it_open_for_so_long() -> None:
    guard = breaker()
    call(guard, FAILED, 100.0, asked_s=30.0)
    for _ in range(4):
        call(guard, FAILED, 101.0)
    assert guard.standing.until == pytest.approx(130.0)
    assert guard.admit(129.9) == Open(guard.standing.until, "5 failures in a row")
    assert permit(guard, 130.1).probe


# --- the way of one breaker


def test_it_trips_is_probed_one_by_one_and_closes_after_two_with_a_slow_start() -> None:
    guard = tripped(100.0)
    assert isinstance(guard.admit(104.9), Open)
    first = permit(guard, 105.1)
    assert first.probe
    assert [type(guard.admit(105.2)) for _ in range(100)] == [Open] * 100
    guard.settle(first, OK, 105.3)
    assert phase(guard.standing, 105.3) is State.HALF_OPEN
    call(guard, OK, 105.4)
    ramps = [guard.standing.ramp]
    for _ in range(62):
        call(guard, OK, 105.5)
        ramps += [guard.standing.ramp] if guard.standing.ramp != ramps[-1] else []
    assert (guard.standing.state, ramps) == (State.CLOSED, [2, 4, 8, 16, 32, 0])


def test_one_failed_probe_opens_it_again_for_twice_as_long() -> None:
    guard = tripped(100.0)
    call(guard, OK, 106.0)
    call(guard, FAILED, 107.0)
    assert (guard.standing.state, guard.standing.until, guard.standing.reason) == (
        State.OPEN,
        117.0,
        "the probe failed",
    )


def test_a_slow_probe_is_no_sign_of_health() -> None:
    guard = tripped(100.0)
    call(guard, OK, 112.0, duration_s=6.0)
    assert guard.standing.state is State.OPEN


def test_slow_answers_alone_trip_it() -> None:
    guard = breaker()
    for _ in range(10):
        call(guard, OK, 100.0, duration_s=5.5)
    assert (guard.standing.state, guard.standing.reason) == (State.OPEN, "10 of 10 calls took longer than 5 s")


def test_a_failure_every_other_time_trips_it() -> None:
    guard = breaker()
    for number in range(10):
        call(guard, FAILED if number % 2 else OK, 100.0)
    assert guard.standing.state is State.OPEN


def test_a_slow_start_that_nobody_uses_ends_by_itself() -> None:
    guard = tripped(100.0)
    for now in (106.0, 107.0):
        call(guard, OK, now)
    for windows in range(1, 6):
        guard.look(107.0 + 60.5 * windows)
    assert guard.standing.ramp == 0


def test_credentials_that_are_refused_say_nothing_of_the_host() -> None:
    guard = breaker()
    for _ in range(1000):
        call(guard, VERDICTS[Failure.HTTP_UNAUTHORIZED], 100.0)
    assert (guard.standing.state, guard.sums(100.0).calls) == (State.CLOSED, 0)


# --- the traps of pybreaker


def test_a_straggler_that_fails_after_the_trip_changes_nothing() -> None:
    guard = breaker()
    stragglers = [permit(guard, 100.0) for _ in range(20)]
    for _ in range(5):
        call(guard, FAILED, 100.0)
    before = guard.standing
    for straggler in stragglers:
        guard.settle(straggler, FAILED, 104.0)
    assert guard.standing == before


@pytest.mark.parametrize("verdict", [OK, FAILED])
def test_a_late_result_of_the_closed_time_decides_nothing_while_half_open(verdict: Verdict) -> None:
    guard = breaker()
    late = [permit(guard, 100.0) for _ in range(7)]
    for straggler in late[:5]:
        guard.settle(straggler, FAILED, 100.0)
    probe = permit(guard, 106.0)
    guard.settle(late[5], verdict, 106.0)
    guard.settle(late[6], verdict, 106.0)
    assert phase(guard.standing, 106.0) is State.HALF_OPEN
    assert guard.holds(probe, 106.0)


def test_a_process_that_was_suspended_blames_nobody_for_the_calls_that_timed_out_meanwhile() -> None:
    guard = breaker()
    caught = [guard.admit(100.0, lease_s=15.0) for _ in range(8)]
    for given in caught:
        assert isinstance(given, Permit)
        guard.settle(given, FAILED, 130.0, duration_s=30.0)
    assert guard.standing.state is State.CLOSED
    assert guard.sums(130.0).calls == 0


def test_a_cancelled_probe_is_no_evidence_and_frees_its_place() -> None:
    guard = tripped(100.0)
    first = permit(guard, 106.0)
    guard.settle(first, NEUTRAL, 106.0)
    assert phase(guard.standing, 106.0) is State.HALF_OPEN
    assert permit(guard, 106.1).probe


def test_a_cancelled_task_stays_cancelled() -> None:
    guard = breaker(consecutive=1, min_calls=1)

    async def guarded() -> None:
        given = permit(guard, 100.0)
        verdict = NEUTRAL
        try:
            await asyncio.sleep(10)
            verdict = OK
        finally:
            guard.settle(given, verdict, 100.0)

    async def main() -> bool:
        task = asyncio.create_task(guarded())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(main())
    assert guard.standing.state is State.CLOSED


def test_a_probe_that_is_never_settled_gives_its_place_back_and_then_counts_no_more() -> None:
    guard = tripped(100.0)
    lost = guard.admit(106.0, lease_s=15.0)
    assert isinstance(lost, Permit)
    assert isinstance(guard.admit(120.9), Open)
    second = permit(guard, 121.1)
    guard.settle(lost, FAILED, 122.0)
    assert guard.holds(second, 122.0)
    guard.settle(second, OK, 122.0)
    guard.settle(second, OK, 122.0)
    assert phase(guard.standing, 122.0) is State.HALF_OPEN


def test_a_permit_is_settled_once() -> None:
    guard = tripped(100.0)
    probe = permit(guard, 106.0)
    for _ in range(5):
        guard.settle(probe, OK, 106.0)
    assert guard.standing.state is State.HALF_OPEN


def test_pybreakers_own_clock_decides_nothing() -> None:
    far = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    for start in (0.0, far):
        guard = tripped(start)
        assert isinstance(guard.admit(start + 1.0), Open)
        assert permit(guard, start + 5.1).probe


# --- an operator's word


def word(mode: Mode, until: float | None = None) -> Word:
    return Word(mode=mode, owner="night-shift", reason="upgrade", until=until)


def stand(guard: Breaker, change: Callable[[Standing], Standing], now: float) -> None:
    guard.adopt(change(guard.standing), guard.revision + 1, now)


def test_kept_open_lets_nothing_through_until_its_time_and_is_probed_before_it_closes() -> None:
    guard = breaker()
    stand(guard, lambda one: overridden(one, word(Mode.OPEN, 200.0), 100.0), 100.0)
    assert guard.admit(199.0) == Open(200.0, "upgrade")
    assert permit(guard, 200.1).probe
    stand(guard, lambda one: overridden(one, word(Mode.OPEN), 201.0), 201.0)
    assert guard.admit(10**6) == Open(None, "upgrade")
    stand(guard, lambda one: overridden(one, word(Mode.AUTO), 300.0), 300.0)
    assert permit(guard, 300.0).probe


def test_kept_closed_lets_everything_through_and_trips_again_when_its_time_is_over() -> None:
    guard = tripped(100.0)
    stand(guard, lambda one: overridden(one, word(Mode.CLOSED, 200.0), 101.0), 101.0)
    for _ in range(50):
        call(guard, FAILED, 150.0)
    assert not guard.shut(150.0)
    call(guard, FAILED, 200.1)
    assert guard.shut(200.1)


def test_auto_changes_nothing_where_nobody_had_a_word() -> None:
    guard = tripped(100.0)
    assert overridden(guard.standing, word(Mode.AUTO), 101.0) is guard.standing


# --- the rest of the fleet


def test_what_is_older_than_what_is_known_is_no_news() -> None:
    guard = breaker()
    assert guard.adopt(Standing(state=State.OPEN, generation=3, until=200.0), 7, 100.0)
    assert not guard.adopt(Standing(generation=2), 6, 100.0)
    assert isinstance(guard.admit(100.0), Open)


def test_a_trip_outlives_a_step_of_the_slow_start_that_came_first() -> None:
    guard = breaker()
    guard.adopt(Standing(generation=2, ramp=2, ramp_since=100.0), 5, 100.0)
    for _ in range(5):
        call(guard, FAILED, 100.0)
    guard.adopt(Standing(generation=2, ramp=4, ramp_since=100.0), 6, 100.0)
    move = guard.move()
    assert move is not None
    assert (move.expected, move.revision, move.standing.state) == (2, None, State.OPEN)


def test_of_two_that_trip_the_first_word_counts() -> None:
    guard = tripped(100.0)
    move = guard.move()
    assert move is not None
    theirs = Standing(state=State.OPEN, generation=1, until=111.0, opens=1)
    guard.said(move, theirs, 1, 100.0)
    assert (guard.standing, guard.move()) == (theirs, None)


def test_what_the_fleet_forgot_is_told_again() -> None:
    guard = tripped(100.0)
    move = guard.move()
    assert move is not None
    guard.said(move, move.standing, 1, 100.0)
    guard.forgotten()
    again = guard.move()
    assert again is not None
    assert (again.expected, again.standing.state) == (0, State.OPEN)
