"""Rows 18 to 21: a vendor that cannot be reached, does not answer, or answers half."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.certificates import self_signed
from tests.demo import ledger
from tests.faults.matrix.load import Call, call, mix
from tests.faults.matrix.proxy import Way
from tests.faults.matrix.scenario import NotRun, Scenario, Scene, play, storm
from tests.faults.matrix.schedule import Fault, Schedule
from tests.faults.matrix.stage import MAIN, Setting, Stage
from tests.vendor.script import Behaviour, Kind

REPEATABLE = ("safe", "idempotent", "keyed")
"""Classes of which nothing is lost and nobody is asked, whatever the vendor does."""
KEYS = ("keyed", "idempotent")
"""The same without reads, of which the vendor's books do not tell one from another."""

HASTY = {"breaker": {"open": "500ms"}}


def events(stage: Stage) -> list[dict[str, Any]]:
    return ledger.read(stage.books, "tool-events")


def results(stage: Stage) -> dict[str, Mapping[str, Any]]:
    """Return the result of each event that has one, by the event's id."""
    return {one["data"]["request"]["id"]: one["data"] for one in ledger.results(stage.books)}


ONE_ATTEMPT = {"retry": {"max_attempts": 1}, "timeout": "10s"}
"""A call that spends an attempt on what is not its fault ends as a letter instead of completing; a busy machine is no fault of it."""


def all_completed(stage: Stage) -> None:
    """Demand that every call completes, and tell why one did not."""
    sums, ended = stage.sums(), results(stage).values()
    why = Counter((one["state"], (one.get("error") or {}).get("class")) for one in ended if one["state"] != "completed")
    stage.demand(sums["completed"] == len(stage.calls), "every call completes", f"{sums} {dict(why)}")


# ---- 18: nobody is there


def gone(dice: Random, seed: int) -> Schedule:
    """Plan that the vendor's port is closed, twice, long enough for the breaker."""
    faults = tuple(
        Fault(at_s=at_s + dice.uniform(0, 0.5), kind="vendor.down", seconds=dice.uniform(1, 1.8)) for at_s in (0.5, 3.0)
    )
    return Schedule(seed=seed, calls=160, seconds=6.0, faults=faults)


def unreachable(scene: Scene) -> None:
    """Call a vendor that goes away and comes back, a name that nobody knows, and a server that nobody vouches for."""
    stage = scene.stage
    context = self_signed(stage.folder)
    server = stage.loop.run(asyncio.start_server(_silent, "127.0.0.1", 0, ssl=context))
    places = {
        "unknown": "https://nowhere.invalid",
        "untrusted": f"https://localhost:{server.sockets[0].getsockname()[1]}",
    }
    stage.setting = replace(stage.setting, documents=[_connection(name, url) for name, url in places.items()])
    stage.declare()
    stage.start_team()
    until = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    lost = [
        call(10_000 + number, stage.dice.choice(KEYS), connection=name, deadline=until)
        for number, name in enumerate(list(places) * 10)
    ]
    calls = [*_to(MAIN, mix(scene.schedule.calls, stage.dice)), *lost]
    stage.dice.shuffle(calls)
    play(scene, calls)
    for name in places:
        scene.nemesis.note(name, 10)
    stage.until(lambda: len(results(stage)) >= len(calls), "all calls end", within_s=25)
    _hold_lost(stage, lost)
    server.close()


async def _silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _connection(name: str, url: str) -> dict[str, Any]:
    metadata = {"name": name, "connector": "crm"}
    secrets = {"api_key": "${env:CRM_KEY}"}
    head = {"apiVersion": "sluice/v1", "kind": "Connection"}
    return {**head, "metadata": metadata, "base_url": url, "secrets": secrets}


def _to(connection: str, calls: list[Call]) -> list[Call]:
    said = b'"data": {'
    return [
        replace(one, raw=one.raw.replace(said, said + b'"connection": "%s", ' % connection.encode())) for one in calls
    ]


def _hold_lost(stage: Stage, lost: list[Call]) -> None:
    """No call that could not be sent is said to be anything else, and none is told as failed of a vendor that came back."""
    ended, ours = results(stage), {one.id for one in lost}
    told = Counter((ended[one.id]["state"], ended[one.id]["effect"]) for one in lost if one.id in ended)
    stage.demand(set(told) <= {("expired", "not_executed"), ("failed", "not_executed")}, "lost calls", str(told))
    dead = [one["request"]["id"] for one in ended.values() if one["state"] == "failed"]
    stage.demand(not set(dead) - ours, "no call fails of a vendor that comes back", str(sorted(dead)))
    open_s = [event["data"] for event in events(stage) if event["type"] == "breaker.changed"]
    told_of = {one["origin"] for one in open_s if one["state"] == "open"}
    stage.demand(len(told_of) >= 2, "the breakers of what cannot be reached open", str(told_of))


# ---- 19 to 21: no answer, or half of one


def silences(dice: Random, seed: int) -> Schedule:
    """Plan that the vendor executes and does not answer, now and then."""
    faults = tuple(
        Fault(
            at_s=number * 1.0,
            kind="vendor_does",
            seconds=0.9,
            does=Behaviour(
                do=Kind.HANG, forever=True, probability=0.2, seed=dice.randrange(10**6), executes=dice.random() < 0.7
            ),
        )
        for number in range(4)
    )
    return Schedule(seed=seed, calls=120, seconds=4.0, faults=faults)


def silent(scene: Scene) -> None:
    """Whoever is not answered is in doubt: a person decides about what nobody can repeat, and only about that."""
    storm(scene)
    stage = scene.stage
    stage.until_quiet()
    ended = [one for one in results(stage).values() if one["state"] == "escalated"]
    hung = {one.ref for one in stage.vendor.arrivals("messages.send") if one.status is None}
    wrong = [one["tool"] for one in ended if one["tool"] != "crm.messages.send"]
    stage.demand(not wrong, "a person is asked only where the vendor cannot be", str(wrong))
    stage.demand(len(ended) == len(hung), f"{len(ended)} are escalated of {len(hung)} that hung")


CUTS: tuple[tuple[Way, int], ...] = (("up", 700), ("down", 400))
"""After how many bytes of what at most."""


def resets(dice: Random, seed: int) -> Schedule:
    """Plan that connections are cut after so many bytes of requests, and of answers."""
    cut = [
        Fault(
            at_s=number * 0.7, kind="vendor.limit_data", way=way, amount=dice.randint(1, most), seconds=0.5, share=0.3
        )
        for number, (way, most) in enumerate(CUTS * 4)
    ]
    done = Behaviour(do=Kind.RESET, executes=True, forever=True, probability=0.3, seed=dice.randrange(10**6))
    return Schedule(
        seed=seed,
        calls=200,
        seconds=7.0,
        faults=(*cut, Fault(at_s=6.0, kind="vendor_does", seconds=0.7, does=done)),
    )


def halves(dice: Random, seed: int) -> Schedule:
    """Plan that answers end in the middle and come byte by byte."""
    half = Behaviour(do=Kind.TRUNCATE, forever=True, probability=0.3, seed=dice.randrange(10**6))
    cut = [Fault(at_s=at_s, kind="vendor_does", seconds=1.0, does=half) for at_s in (0.0, 2.0)]
    slow = [Fault(at_s=at_s, kind="vendor.slicer", amount=1, seconds=1.0) for at_s in (1.0, 2.0)]
    return Schedule(seed=seed, calls=150, seconds=4.0, faults=(*cut, *slow))


def halved(scene: Scene) -> None:
    """The head of the answer has said it: it ran, so nobody asks the vendor to do it again."""
    storm(scene)
    stage = scene.stage
    stage.until_quiet()
    calls = Counter((one.operation, one.ref) for one in stage.vendor.arrivals() if one.ref and one.method != "GET")
    again = [name for name, times in calls.items() if times > 1]
    stage.demand(not again, "nothing is sent twice", str(again))
    cut = [one["effect"] for one in results(stage).values() if one["state"] == "failed" and "s." in one["tool"]]
    stage.demand(cut, "answers were cut")


EGRESS = {"egress": {"allow_hosts": ["127.0.0.1", "localhost", "nowhere.invalid"], "allow_private": True}}

ROWS: tuple[Scenario | NotRun, ...] = (
    Scenario(
        number=18,
        title="connection refused, a name that does not resolve, a certificate nobody vouches for",
        invariants="UL",
        bound_s=40,
        plan=gone,
        run=unreachable,
        setting=Setting(connector=EGRESS, defaults=HASTY),
    ),
    Scenario(
        number=19,
        title="the vendor executes and never answers",
        invariants="DU",
        bound_s=30,
        plan=silences,
        run=silent,
        setting=Setting(defaults={"breaker": {"consecutive": 50, "failure_rate": "90%", "open": "500ms"}}),
        smoke=True,
    ),
    Scenario(
        number=20,
        title="connections cut after N bytes of a request or an answer",
        invariants="UD",
        bound_s=30,
        plan=resets,
        setting=Setting(defaults=HASTY, journal=True),
    ),
    Scenario(
        number=21,
        title="answers cut in the middle, and byte by byte",
        invariants="UD",
        bound_s=30,
        plan=halves,
        run=halved,
        setting=Setting(defaults={"breaker": {"consecutive": 1000, "min_calls": 10_000}, "timeout": "5s"}),
        smoke=True,
    ),
)
