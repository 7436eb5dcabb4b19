"""Rows 31 to 35: tokens that end in the middle of a burst, refreshes that are lost, stopped or refused, and credentials that are wrong."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Literal

import httpx2
import msgspec

from tests.demo import ledger
from tests.faults.matrix import recorder
from tests.faults.matrix.ground import Heal, nothing
from tests.faults.matrix.load import ALL, Call, call, mix
from tests.faults.matrix.rows_vendor import KEYS, ONE_ATTEMPT, REPEATABLE, all_completed, results
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play, storm
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import MAIN, Setting, Stage, patience
from tests.vendor.client import VendorControl, VendorProcess
from tests.vendor.script import Behaviour, Kind, Point
from tests.vendor.tokens import DeskCounts, DeskRequest

Rotation = Literal["none", "grace", "strict"]

SECRETS = {
    "client_id": "canary-client",
    "client_secret": "canary/secret+1",
    "refresh_token": "canary-refresh-0",
}
ENVIRONMENT = {name.upper(): secret for name, secret in SECRETS.items()}
AGAIN = "canary-refresh-1"
AUTH = {"type": "oauth2", "grant": "refresh_token", "token_url": "/oauth/token", "authorize_url": "/oauth/authorize"}
DESK = msgspec.convert(SECRETS, DeskRequest)


def connection(name: str, base_url: str = "", **secrets: str) -> dict[str, Any]:
    """Declare a connection with these secrets, by the variables that hold them."""
    head = {"apiVersion": "sluice/v1", "kind": "Connection", "metadata": {"name": name, "connector": "crm"}}
    named = {key: f"${{env:{variable}}}" for key, variable in secrets.items()}
    return {**head, "secrets": named} | ({"base_url": base_url} if base_url else {})


TOKENS = {name: name.upper() for name in SECRETS}


def issuing(stage: Stage, rotation: Rotation, **more: Any) -> None:
    """Let the vendor issue tokens, and declare connections that need them."""
    stage.vendor.desk(msgspec.structs.replace(DESK, rotation=rotation, **more))
    stage.vendor.auth("oauth2")
    stage.setting = replace(stage.setting, auth={**AUTH, "rotation": rotation})
    stage.declare()


def closed_books(stage: Stage, *vendors: VendorControl) -> DeskCounts:
    """Remember every token that there was, for the search where none may be; return the books of the stage's own vendor."""
    secrets = [SECRETS["client_secret"], SECRETS["refresh_token"], AGAIN]
    issued = [token for vendor in (stage.vendor, *vendors) for token in vendor.desk_counts().issued]
    stage.canaries += [*secrets, *issued]
    return stage.vendor.desk_counts()


def version(stage: Stage, name: str = MAIN) -> int:
    return int(stage.books.hget(f"{{s0}}:token:crm|{name}", "version") or 0)


def alerts(stage: Stage, kind: str = "token.") -> list[dict[str, Any]]:
    return [one["data"] for one in ledger.read(stage.books, "gateway-alerts") if one["type"].startswith(kind)]


def to(name: str, calls: Sequence[Call]) -> list[Call]:
    """Send calls by this connection."""
    return [replace(one, raw=_with(one.raw, connection=name)) for one in calls]


def _with(raw: bytes, **data: str) -> bytes:
    event = json.loads(raw)
    return json.dumps({**event, "data": {**event["data"], **data}}).encode()


def consent(stage: Stage, **given: str) -> None:
    """Do what the alert says, over HTTP."""
    stage.vendor.consent(given["refresh_token"])
    stage.workers.start_api()
    place = f"http://127.0.0.1:{stage.workers.environment['SLUICE_PORT']}/v1/connections/crm/{MAIN}/set"
    answer = httpx2.post(place, json=given, timeout=30, trust_env=False)
    stage.demand(answer.json().get("worked"), "the new consent works", answer.text)


# ---- 31: it ends in the middle of a burst


def ends(dice: Random, seed: int) -> Schedule:
    """Plan that the vendor ends access tokens early, on top of their short life."""
    faults = tuple(Fault(at_s=1.5 + number * 2 + dice.uniform(0, 1), kind="expire") for number in range(3))
    return Schedule(seed=seed, calls=450, seconds=7.0, faults=faults)


def expiring(scene: Scene) -> None:
    """One request for each rotation, and no call pays for it."""
    stage, vendor = scene.stage, scene.stage.vendor

    scene.nemesis.verbs["expire"] = _doing(vendor.expire)
    issuing(stage, "strict", lifetime=3.0)
    begun = time.monotonic()
    storm(scene)
    stage.until_quiet()
    took_s = time.monotonic() - begun
    desk, kept = closed_books(stage), version(stage)
    stage.demand(
        desk.requests == desk.granted["refresh_token"] == kept, "one request a rotation", f"{desk.granted} {kept}"
    )
    most = took_s / 2 + 2 + len(scene.schedule.faults)
    stage.demand(desk.requests <= most, f"{desk.requests} requests, at most {most:.0f}")
    stage.demand((desk.reuses, desk.repeats, desk.alive) == (0, 0, True), "no refresh token came twice")
    all_completed(stage)


# ---- 32: a refresh is lost

POINTS = {"before refresh": False, "asked": True, "after refresh": True}
"""Where a worker dies, and whether the vendor has replaced the refresh token by then."""


def lost_refreshes(dice: Random, seed: int) -> Schedule:
    """Plan where in a refresh a worker dies, and how the vendor rotates."""
    rotation = ("strict", "grace")[seed % 2]
    fault = Fault(at_s=0.0, kind="die_in_refresh", point=f"{rotation}/{dice.choice(list(POINTS))}")
    return Schedule(seed=seed, calls=60, seconds=1.0, faults=(fault,))


def in_doubt(scene: Scene) -> None:
    """Within grace it heals by itself; a vendor without any is asked once, and then a person is."""
    stage = scene.stage
    rotation, _, point = next((fault.point for fault in scene.schedule.faults), "grace/none").partition("/")
    issuing(stage, "strict" if rotation == "strict" else "grace")
    if point in POINTS:
        _die_in_refresh(scene, point)
    stage.start_team()
    play(replace(scene, schedule=replace(scene.schedule, faults=())))
    lost = rotation == "strict" and POINTS.get(point, False)
    if lost:
        stage.until(lambda: alerts(stage, "token.needs_consent"), "somebody is told")
        time.sleep(0.5)
        stage.demand(stage.vendor.desk_counts().requests == 2, "the old refresh token is tried once")
        stage.demand(not stage.vendor.counts().effects_total, "nothing is sent without a token")
        consent(stage, refresh_token=AGAIN)
        stage.healed()
    stage.until_quiet()
    desk = closed_books(stage)
    stage.demand((desk.reuses, desk.alive) == (int(lost), True), "the grant lives", str(desk.refused))
    stage.demand(len(alerts(stage, "token.needs_consent")) == int(lost), "one alert, when a person is needed")
    all_completed(stage)


def _die_in_refresh(scene: Scene, point: str) -> None:
    stage = scene.stage
    scene.nemesis.note(f"die {point}")
    if point == "asked":
        stage.vendor.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
    doomed = stage.workers.start(*(["hasty"] if point == "asked" else [point, "1"]))
    first = call(90_000, "keyed")
    stage.publish(first)
    if point == "asked":
        stage.vendor.until(held=1, timeout=60)
        doomed.kill()
    stage.until(lambda: doomed.poll() is not None, "it dies", within_s=60)
    stage.demand(doomed.poll() == -signal.SIGKILL, f"it dies {point}")
    stage.vendor.release()


# ---- 33: a refresh by somebody who slept


def sleeps(dice: Random, seed: int) -> Schedule:
    """Plan how long the holder of the lease sleeps beyond it."""
    return Schedule(seed=seed, calls=80, faults=(Fault(at_s=0.0, kind="sleep", seconds=dice.uniform(0.0, 1.5)),))


def stale(scene: Scene) -> None:
    """Who wakes up after its lease with an answer in hand changes nothing."""
    stage = scene.stage
    issuing(stage, "grace")
    stage.vendor.script("token", Behaviour(do=Kind.HOLD, point=Point.AFTER))
    sleeper = stage.workers.start("hasty")
    stage.publish(call(90_000, "keyed"))
    stage.vendor.until(held=1, timeout=60)
    sleeper.send_signal(signal.SIGSTOP)
    scene.nemesis.note("stop_refresher")
    stage.vendor.release()
    stage.start_team()
    stage.until(lambda: version(stage) >= 1, "another asks", within_s=30)
    time.sleep(sum(fault.seconds for fault in scene.schedule.faults))
    before = stage.books.hgetall(f"{{s0}}:token:crm|{MAIN}")
    sleeper.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    after = stage.books.hgetall(f"{{s0}}:token:crm|{MAIN}")
    stage.demand(before == after, "who slept changes nothing", f"{sorted(before)} {sorted(after)}")
    play(replace(scene, schedule=replace(scene.schedule, faults=())))
    stage.until_quiet()
    stage.vendor.expire()
    stage.publish(*[call(91_000 + number, "keyed") for number in range(20)])
    stage.healed()
    stage.until_quiet()
    desk = closed_books(stage)
    stage.demand((desk.reuses, desk.alive) == (0, True), "what is kept is the vendor's newest", str(desk.refused))
    all_completed(stage)


# ---- 34: a grant that is withdrawn, a client that is not known

OTHER = "other"
ANOTHER = msgspec.structs.replace(DESK, client_secret="another")


def withdrawals(dice: Random, seed: int) -> Schedule:
    """Plan which of the two it is, and when."""
    kind = ("invalid_grant", "invalid_client")[seed % 2]
    return Schedule(seed=seed, calls=60, seconds=3.0, faults=(Fault(at_s=dice.uniform(0.5, 2.0), kind=kind),))


def withdrawn(scene: Scene) -> None:
    """Its own calls wait until somebody has mended it, one alert says so, and the other connection does not notice."""
    stage = scene.stage
    with VendorProcess() as second:
        second.desk(DESK)
        second.auth("oauth2")
        both = [connection(MAIN, **TOKENS), connection(OTHER, second.url, **TOKENS)]
        stage.setting = replace(stage.setting, documents=both)
        issuing(stage, "none")
        _withdraw(scene)
        closed_books(stage, second)
        stage.other_books.append(recorder.books(second))


def _withdraw(scene: Scene) -> None:
    stage, vendor = scene.stage, scene.stage.vendor
    stage.start_team()
    scene.nemesis.verbs |= {
        "invalid_grant": _doing(vendor.revoke),
        "invalid_client": _doing(partial(vendor.desk, ANOTHER)),
    }
    mine = to(MAIN, [replace(one, agent="north") for one in mix(scene.schedule.calls, stage.dice)])
    theirs = to(OTHER, [call(70_000 + number, stage.dice.choice(ALL), agent="south") for number in range(30)])
    stage.bystanders["south"] = round(4_000 * patience())
    both = [*mine, *theirs]
    stage.dice.shuffle(both)
    play(scene, both)
    stage.until(lambda: {one.id for one in theirs} <= set(results(stage)), "the other connection's calls end")
    if scene.schedule.faults:
        stage.until(lambda: alerts(stage), "somebody is told")
        asked = vendor.desk_counts().requests
        time.sleep(1.0)
        stage.demand(vendor.desk_counts().requests == asked, "the vendor is not asked again and again")
        told = Counter((one["connection"]) for one in alerts(stage))
        stage.demand(told == {MAIN: 1}, "one alert, about one connection", str(told))
        if scene.schedule.faults[0].kind == "invalid_client":
            vendor.desk(DESK)
        consent(stage, refresh_token=AGAIN)
    stage.healed()
    stage.until_quiet()
    all_completed(stage)


def _doing(act: Callable[[], None]) -> Callable[[Fault], Heal]:
    """Make a verb of something that needs no healing."""

    def strike(_: Fault) -> Heal:
        act()
        return nothing

    return strike


# ---- 35: a credential that the vendor refuses


def storms(dice: Random, seed: int) -> Schedule:
    """Plan how many calls show a wrong credential."""
    return Schedule(
        seed=seed, calls=100, seconds=3.0, faults=(Fault(at_s=0.0, kind="wrong_key", amount=dice.randint(30, 60)),)
    )


def refused(scene: Scene) -> None:
    """What is wrong with one credential is nobody else's trouble, and no reason to stop calling the vendor."""
    stage = scene.stage
    stage.start_team()
    count = sum(fault.amount for fault in scene.schedule.faults)
    scene.nemesis.note("wrong_key", count)
    wrong = to("wrong", [call(70_000 + number, stage.dice.choice(KEYS), agent="west") for number in range(count)])
    right = to(MAIN, mix(scene.schedule.calls, stage.dice, REPEATABLE))
    for agent in {one.agent for one in right}:
        stage.bystanders[agent] = round(4_000 * patience())
    both = [*wrong, *right]
    stage.dice.shuffle(both)
    play(replace(scene, schedule=replace(scene.schedule, faults=())), both)
    stage.until_quiet()
    ended = results(stage)
    told = Counter((ended[one.id]["state"], ended[one.id]["effect"]) for one in wrong if one.id in ended)
    stage.demand(set(told) == {("failed", "not_executed")}, "calls with the wrong key", str(told))
    moved = [one for one in ledger.read(stage.books, "tool-events") if one["type"] == "breaker.changed"]
    stage.demand(not moved, "the vendor is well, and its breaker says so", str(moved))
    seen = [one for one in stage.vendor.arrivals() if one.status == 401]
    stage.demand(len(seen) <= count, f"{len(seen)} arrivals for {count} calls: nobody tries it again")


WRONG = "canary-wrong-key"

ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=31,
        title="the token ends in the middle of a burst, before 52 calls at once",
        invariants="DS",
        bound_s=30,
        plan=ends,
        run=expiring,
        setting=Setting(
            workers=4,
            classes=ALL,
            defaults=ONE_ATTEMPT,
            environment={**ENVIRONMENT, "SLUICE_CONCURRENCY": "13"},
            documents=(connection(MAIN, **TOKENS),),
            auth=AUTH,
        ),
    ),
    Scenario(
        number=32,
        title="a refresh is lost on its way, or its worker dies before it is kept",
        invariants="LST",
        bound_s=40,
        plan=lost_refreshes,
        run=in_doubt,
        setting=Setting(
            workers=1, defaults=ONE_ATTEMPT, environment=ENVIRONMENT, documents=(connection(MAIN, **TOKENS),), auth=AUTH
        ),
    ),
    Scenario(
        number=33,
        title="the holder of the refresh lease sleeps, and writes late",
        invariants="D",
        bound_s=30,
        plan=sleeps,
        run=stale,
        setting=Setting(
            workers=1, defaults=ONE_ATTEMPT, environment=ENVIRONMENT, documents=(connection(MAIN, **TOKENS),), auth=AUTH
        ),
    ),
    Scenario(
        number=34,
        title="a consent is withdrawn, or the client is not known any more",
        invariants="LI",
        bound_s=40,
        plan=withdrawals,
        run=withdrawn,
        setting=Setting(workers=2, defaults=ONE_ATTEMPT, environment=ENVIRONMENT, auth=AUTH),
    ),
    Scenario(
        number=35,
        title="a storm of 401 from one credential",
        invariants="I",
        bound_s=30,
        plan=storms,
        run=refused,
        setting=Setting(
            workers=2,
            environment={"WRONG_KEY": WRONG},
            documents=(connection("wrong", api_key="WRONG_KEY"),),
        ),
        smoke=True,
    ),
)
