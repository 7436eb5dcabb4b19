"""Rows 25 to 30: what a vendor says of its limits or keeps to itself, saturation, a tenant that floods, deadlines, and wrong clocks."""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

from tests.faults.cases import Pace
from tests.faults.matrix.ground import Heal, nothing
from tests.faults.matrix.load import Call, call, mix
from tests.faults.matrix.proxy import Way
from tests.faults.matrix.recording import Limit
from tests.faults.matrix.rows_vendor import KEYS, ONE_ATTEMPT, REPEATABLE, all_completed, results
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play, storm
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.server_clock import COMPILER, ServerClock
from tests.faults.matrix.stage import Setting, patience
from tests.faults.rows import throughput
from tests.vendor.latency import Latency, Shape
from tests.vendor.limiter import LimitRequest
from tests.vendor.script import Behaviour, Kind


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# ---- 25: "slow down", in every way that there is to say it

THIRTY = Limit(most=30)


def refusals(dice: Random, seed: int) -> Schedule:
    """Plan a burst of refusals for each way to say how long to wait, and some that make no sense."""
    date = "{date}"
    words = ["1", "2", date, "Mon, 01 Jan 2001 00:00:00 GMT", "soon", "-7", "0", ""]
    dice.shuffle(words)
    faults = tuple(
        Fault(at_s=0.7 + number * 2, kind="vendor_does", seconds=0.8, does=_slow_down(word))
        for number, word in enumerate(words[:5])
    )
    return Schedule(seed=seed, calls=200, seconds=10.0, faults=faults)


def _slow_down(word: str) -> Behaviour:
    headers = {"Retry-After": word} if word else {}
    return Behaviour(do=Kind.STATUS, status=429, headers=headers, forever=True)


def refused(scene: Scene) -> None:
    """Nobody pays for a refusal with an attempt, and who is told to wait eleven thousand days does not wait for ever."""
    stage = scene.stage
    stage.start_team()
    # A date is that of its burst: one that lies further ahead would close the next bursts too, and nobody would be refused there.
    now = datetime.now(UTC) + timedelta(seconds=1)
    dates = [
        _dated(fault, format_datetime(now + timedelta(seconds=fault.at_s), usegmt=True))
        for fault in scene.schedule.faults
    ]
    play(replace(scene, schedule=replace(scene.schedule, faults=tuple(dates))))
    stage.until_quiet()
    all_completed(stage)
    seen = [one for one in stage.vendor.arrivals() if one.status == 429]
    most = (THIRTY.most + 6) * len(dates)
    stage.demand(len(seen) <= most, f"{len(seen)} refused arrivals", f"at most {most} in {len(dates)} bursts")
    # Who was told to wait in one burst may still wait in the next.
    stage.demand(2 * len(seen) > len(dates), "most bursts refused somebody", str(len(seen)))
    _for_ever(scene)


def _dated(fault: Fault, date: str) -> Fault:
    does = fault.does
    if does is None or does.headers.get("Retry-After") != "{date}":
        return fault
    return replace(fault, does=_slow_down(date))


def _for_ever(scene: Scene) -> None:
    stage = scene.stage
    before = stage.vendor.counts(names=False).arrivals
    stage.vendor.script("*", _slow_down("1000000000"))
    scene.nemesis.note("refused_for_ever")
    late = [call(20_000 + number, "keyed", deadline=soon(4)) for number in range(5)]
    stage.publish(*late)
    stage.until(lambda: {one.id for one in late} <= set(results(stage)), "who cannot wait is told", within_s=20)
    told = Counter((results(stage)[one.id]["state"], results(stage)[one.id]["effect"]) for one in late)
    stage.demand(
        set(told) <= {("expired", "not_executed"), ("rejected", "not_executed")}, "who cannot wait ends", str(told)
    )
    arrived = stage.vendor.counts(names=False).arrivals - before
    stage.demand(arrived <= len(late), f"{arrived} arrivals while the vendor is closed")
    stage.vendor.script("*")
    stage.healed()


# ---- 26: the vendor halves its limit

FORTY = Limit(most=40)


def halvings(dice: Random, seed: int) -> Schedule:
    """Plan that the limit is halved with a word about it, and without one, in some order."""
    faults = [
        Fault(at_s=dice.uniform(1.5, 2.5), kind=kind, amount=FORTY.most // 2) for kind in ("halved_told", "halved")
    ]
    dice.shuffle(faults)
    return Schedule(seed=seed, calls=220, seconds=0.5, faults=tuple(faults))


def halved(scene: Scene) -> None:
    """With headers the gateway keeps to the new limit; without, it is refused, waits, and nobody pays for it."""
    stage = scene.stage
    stage.start_team()
    count = scene.schedule.calls
    calls = mix(count * max(1, len(scene.schedule.faults)), stage.dice, REPEATABLE)
    for number, fault in enumerate(scene.schedule.faults):
        stage.vendor.limit(LimitRequest(most=FORTY.most))
        time.sleep(1.1)
        play(replace(scene, schedule=replace(scene.schedule, faults=())), calls[number * count : (number + 1) * count])
        time.sleep(fault.at_s)
        told = fault.kind == "halved_told"
        scene.nemesis.note(fault.kind)
        at_us = time.monotonic_ns() // 1_000
        stage.vendor.limit(LimitRequest(most=fault.amount, told=told, retry_after="{seconds}" if told else None))
        stage.until_quiet()
        seen = [one for one in stage.vendor.arrivals() if one.mono_us > at_us]
        refused = [one for one in seen if one.status == 429]
        most = fault.amount if told else 0.4 * len(seen)
        stage.demand(
            len(refused) <= most, f"{fault.kind}: {len(refused)} of {len(seen)} refused", f"at most {most:.0f}"
        )
    stage.vendor.limit(LimitRequest(most=1_000))
    all_completed(stage)


# ---- 27: saturation

TWENTY_FIVE = 25
WAYS: tuple[Way, ...] = ("up", "down")
TAIL = Latency(shape=Shape.PARETO, median=0.08, alpha=1.2, cap=3.0)
SPREAD = Latency(shape=Shape.LOGNORMAL, median=0.1, sigma=0.8, cap=3.0)


def jitters(dice: Random, seed: int) -> Schedule:
    """Plan jitter on the way there, on top of a vendor whose response times have a heavy tail."""
    faults = tuple(
        Fault(at_s=number * 2.0, kind="vendor.latency", way=way, delay_s=0.01, jitter_s=0.01, seconds=1.9)
        for number, way in enumerate(WAYS * 2)
    )
    return Schedule(seed=seed, calls=600, seconds=0.5, faults=faults)


def saturated(scene: Scene) -> None:
    """All slots are in use all the time, and never one too many."""
    stage, dice = scene.stage, scene.stage.dice
    for operation, latency in (("contacts.create", TAIL), ("contacts.get", SPREAD), ("contacts.update", TAIL)):
        seed = dice.randrange(10**6)
        stage.vendor.script(operation, Behaviour(do=Kind.DELAY, latency=latency, seed=seed, forever=True))
    scene.nemesis.note("heavy_tail")
    storm(scene)
    stage.until_quiet()
    all_completed(stage)
    # A slot that is free waits for a core where others have them all.
    least = 0.9 if patience() <= 2 else 0.7
    for limit in stage.setting.limits:
        found = [one for one in stage.vendor.arrivals() if one.operation in limit.operations]
        share = throughput(found, Pace(most=limit.most))
        stage.demand(share is not None and share >= least, f"{limit.operations}: {share} of what is allowed")


# ---- 28: a tenant that floods

QUIET_P95_MS = 3_000


def floods(dice: Random, seed: int) -> Schedule:
    """Plan hundreds of calls of one agent for each of another, answered slowly."""
    slow = Latency(shape=Shape.LOGNORMAL, median=0.1, sigma=1.0, cap=2.0)
    does = Behaviour(do=Kind.DELAY, latency=slow, seed=dice.randrange(10**6), forever=True)
    return Schedule(seed=seed, calls=800, seconds=0.0, faults=(Fault(at_s=0.0, kind="vendor_does", does=does),))


def noisy(scene: Scene) -> None:
    """A quiet agent's calls are not at the end of a loud one's queue."""
    stage = scene.stage
    stage.start_team()
    for fault in scene.schedule.faults:
        scene.nemesis.strike(fault)
    stage.bystanders["south"] = round(QUIET_P95_MS * patience())
    stage.flood(*[call(number, "keyed", agent="north") for number in range(scene.schedule.calls)])
    for number in range(8):
        stage.publish(call(50_000 + number, "keyed", agent="south"))
        time.sleep(0.3)
    waiting = stage.sums().live
    stage.demand(waiting > 50, f"the loud agent's calls wait meanwhile: {waiting}")
    stage.healed()
    stage.until_quiet()
    all_completed(stage)


# ---- 29: no time for it

SLOW = Limit(most=8)


def hurries(dice: Random, seed: int) -> Schedule:
    """Plan calls that are in a hurry, behind many that are not; how much of one only the dice know."""
    faults = tuple(Fault(at_s=dice.uniform(0.3, 2.5), kind="hurry", amount=4) for _ in range(6))
    return Schedule(seed=seed, calls=64, seconds=0.5, faults=faults)


def hurried(scene: Scene) -> None:
    """Who cannot start in time is told so at once, and the vendor never hears of it."""
    stage = scene.stage
    stage.start_team()
    play(replace(scene, schedule=replace(scene.schedule, faults=())))
    stage.until(lambda: stage.sums()["accepted"] >= len(stage.calls), "the queue stands")
    stage.until(lambda: stage.sums()["completed"] >= 2 * SLOW.most, "the pace is known")
    hasty: list[Call] = []
    for number, fault in enumerate(scene.schedule.faults):
        scene.nemesis.note("hurry", fault.amount)
        hasty += [
            call(30_000 + 10 * number + one, "keyed", agent="north", deadline=soon(fault.at_s))
            for one in range(fault.amount)
        ]
    stage.publish(*hasty)
    stage.healed()
    stage.until(lambda: {one.id for one in hasty} <= set(results(stage)), "they are told", within_s=8)
    told = Counter((results(stage)[one.id]["state"], results(stage)[one.id]["effect"]) for one in hasty)
    stage.demand(set(told) == {("rejected", "not_executed")}, "each is rejected", str(told))
    refs = {one.ref for one in hasty}
    came = [one.ref for one in stage.vendor.arrivals() if one.ref in refs]
    stage.demand(not came, "none of them arrives", str(came))


# ---- 30: wrong clocks


def clocks(dice: Random, seed: int) -> Schedule:
    """Plan that the workers' wall clock is an hour off, either way, and that Redis' own is set forward and back by five seconds."""
    hours = [3_600, -3_600]
    dice.shuffle(hours)
    faults = [
        Fault(at_s=1.0 + number * 3 + dice.uniform(0, 1), kind="clock", amount=amount, seconds=1.5)
        for number, amount in enumerate(hours)
    ]
    if COMPILER:
        # Forward in one step, and back where it was in another: each is a harm of its own.
        faults.append(Fault(at_s=dice.uniform(1, 3), kind="redis_clock", amount=5))
        faults.append(Fault(at_s=dice.uniform(4, 6), kind="redis_clock", amount=0))
    return Schedule(seed=seed, calls=260, seconds=7.0, faults=tuple(faults))


def misled(scene: Scene) -> None:
    """Nothing comes in a burst, and nothing is stuck for longer than the clock went back."""
    stage = scene.stage
    if COMPILER:
        clock = ServerClock(stage.folder)
        stage.redis.kill()
        stage.redis.environment |= clock.environment
        stage.redis.start()

        def step(fault: Fault) -> Heal:
            clock.set(fault.amount)
            return nothing

        scene.nemesis.verbs["redis_clock"] = step
    storm(scene)
    stage.until_quiet()
    all_completed(stage)


def limited(limit: Limit, operations: tuple[str, ...]) -> tuple[Limit, ...]:
    return tuple(replace(limit, operations=(operation,)) for operation in operations)


ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=25,
        title="429 with a Retry-After in seconds, as a date, past, of 10⁹, garbage, or none",
        invariants="RT",
        bound_s=40,
        plan=refusals,
        run=refused,
        setting=Setting(workers=2, classes=("keyed", "idempotent", "unsafe"), limits=(THIRTY,), defaults=ONE_ATTEMPT),
    ),
    Scenario(
        number=26,
        title="the vendor halves its limit, and says so or does not",
        invariants="R",
        bound_s=40,
        plan=halvings,
        run=halved,
        setting=Setting(workers=2, classes=REPEATABLE, limits=(FORTY,), defaults=ONE_ATTEMPT),
    ),
    Scenario(
        number=27,
        title="response times with a heavy tail, at saturation",
        invariants="R",
        bound_s=50,
        plan=jitters,
        run=saturated,
        setting=Setting(
            workers=2,
            classes=REPEATABLE,
            limits=limited(Limit(most=TWENTY_FIVE), ("contacts.create", "contacts.get", "contacts.update")),
            defaults={"timeout": "5s"},
            environment={"SLUICE_CONCURRENCY": "64"},
        ),
    ),
    Scenario(
        number=28,
        title="one agent floods, another calls now and then",
        invariants="I",
        bound_s=40,
        plan=floods,
        run=noisy,
        setting=Setting(
            workers=2, classes=("keyed",), limits=(Limit(most=12, window_s=0.0),), defaults={"timeout": "3s"}
        ),
    ),
    Scenario(
        number=29,
        title="a deadline before the time at which it would start",
        invariants="TU",
        bound_s=30,
        plan=hurries,
        run=hurried,
        setting=Setting(workers=1, classes=("keyed",), limits=(SLOW,)),
        smoke=True,
    ),
    Scenario(
        number=30,
        title="wall clocks an hour off, and Redis' own set forward and back",
        invariants="RT",
        bound_s=40,
        plan=clocks,
        run=misled,
        setting=Setting(
            workers=2,
            classes=(*KEYS, "unsafe"),
            limits=(Limit(most=25), Limit(most=20, window_s=0.0)),
            module="tests.faults.shifted",
        ),
    ),
)
