"""Alerts on a real Redis: one is open a pattern however many processes look, it counts on, resolves once, and does not flap."""

import asyncio
import json
import random
import time
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from connectors.breaking.standing import State
from gateway.flow import alert_watch
from gateway.flow.refusals import Conflict, Nowhere, Unfit
from gateway.policy import tallies
from gateway.policy.patterns import Evidence, observed
from schemas.alert import AlertKind
from tests.alert_stage import SHARD, TOPICS, AlertStage

pytestmark = pytest.mark.wire

DOWN = "crm|https://crm.example.com"


async def rounds(watch: alert_watch.AlertWatch, seconds: float) -> None:
    """Look again and again."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await watch.run()
        await asyncio.sleep(0.02)
    await watch.run()


async def hand_over(stage: AlertStage) -> None:
    """Let the turn of whoever has it end."""
    await stage.redis.delete(SHARD.key("turn:alerts"))


async def test_nine_are_none_and_ten_are_one_with_what_to_do(redis: "Redis") -> None:
    stage = AlertStage(redis)
    watch = stage.watch()
    await stage.fail(9)
    await watch.run()
    assert await stage.told() == []
    await stage.fail(1, first=9)
    await watch.run()
    (one,) = await stage.told()
    assert (one["specversion"], one["source"], one["subject"]) == ("1.0", "sluice", "failure.similar")
    assert one["id"] == f"{one['data']['alert']}.opened"
    assert one["data"] == {
        "alert": one["data"]["alert"],
        "kind": "failure.similar",
        "key": "v1:ab",
        "opened": one["time"],
        "count": 10,
        "sentence": "10 calls ended alike within 1m: receive.reset at crm.echo.",
        "action": "sluice calls show c9",
        "sample": {"call": "c9", "tool": "crm.echo", "failure": "receive.reset"},
    }


async def test_many_processes_that_look_at_once_open_one_and_count_every_call_once(redis: "Redis") -> None:
    stage = AlertStage(redis)
    watches = [stage.watch(f"{number:x}" * (number + 1)) for number in range(8)]

    async def looks(watch: alert_watch.AlertWatch) -> None:
        for _ in range(12):
            await hand_over(stage)  # every look is somebody else's: also in the middle of another one
            await watch.run()
            await asyncio.sleep(0.01)

    await asyncio.gather(stage.fail(300), *(looks(one) for one in watches))
    await hand_over(stage)
    await watches[0].run()
    assert await stage.kinds() == [("opened", "failure.similar")]
    (record,) = await stage.control.ls(whole=False)
    assert record.count == 300


async def test_an_alert_counts_on_and_resolves_once_when_its_window_is_empty(redis: "Redis") -> None:
    stage = AlertStage(redis, window_s=1.5)
    watch = stage.watch()
    await stage.fail(10)
    await watch.run()
    await stage.fail(25, first=10)
    await rounds(watch, 0.5)
    (record,) = await stage.control.ls(whole=False)
    assert (record.state, record.count) == ("open", 35)
    await rounds(watch, 2.0)
    first, second = await stage.told()
    assert (first["type"], second["type"]) == ("alert.opened", "alert.resolved")
    assert second["id"] == f"{first['data']['alert']}.resolved"
    assert (second["data"]["count"], second["data"]["by"], second["data"]["opened"]) == (35, "", first["time"])
    assert await stage.control.ls(whole=False) == []


async def test_what_happened_while_nobody_looked_is_counted_where_it_happened(redis: "Redis") -> None:
    stage = AlertStage(redis, window_s=1.2)
    await stage.fail(10)
    await asyncio.sleep(1.6)
    await stage.fail(9, first=10)
    await stage.watch().run()
    assert await stage.told() == []  # nineteen were read together, nine of them are in the window
    await stage.fail(1, first=19)
    await hand_over(stage)
    await stage.watch("other").run()
    assert await stage.kinds() == [("opened", "failure.similar")]


async def test_a_crash_between_count_and_alert_is_healed_by_the_next_look(redis: "Redis") -> None:
    stage = AlertStage(redis)
    await stage.fail(10)
    dying = stage.watch()
    assert await dying._from.places.turn(alert_watch.TURN, lease_s=10)
    await dying.count()  # and then it dies
    await hand_over(stage)
    await stage.watch("other").run()
    assert await stage.kinds() == [("opened", "failure.similar")]
    assert (await stage.told())[0]["data"]["count"] == 10


async def test_two_readers_of_the_same_entries_count_them_once(redis: "Redis") -> None:
    stage = AlertStage(redis)
    await stage.fail(6)
    readers = [stage.sources(name) for name in ("a", "b", "c")]
    read = [await one.places.read(TOPICS.events, "", 500) for one in readers]  # all of them before anybody counts
    moved = [
        await one.windows.add(TOPICS.events, "", entries[-1].id, tallies.of_events(entries, stage.terms))
        for one, entries in zip(readers, read, strict=True)
    ]
    assert moved == [True, False, False]
    (one,) = await stage.sources("x").windows.within({}, 60_000)
    assert (one.count, one.total) == (6, 6)


async def test_an_observer_that_was_held_up_changes_nothing(redis: "Redis") -> None:
    stage = AlertStage(redis)
    slow = stage.watch("slow")
    assert await slow._from.places.turn(alert_watch.TURN, lease_s=10)
    stage.things.breakers[DOWN] = State.OPEN
    await hand_over(stage)
    await stage.watch("next").run()
    await slow.look()
    before = await stage.book().ls()
    stage.things.breakers.clear()
    await slow.look()
    assert await stage.book().ls() == before
    seen = observed(Evidence(kind=AlertKind.CONFIG, subject="x", facts={}), stage.terms, is_open=False, alert="a")
    assert await slow._book.observe(alert_watch.TURN, [seen, seen]) == ["late", "late"]


async def test_a_breaker_must_be_open_for_long_enough_and_half_open_is_not_well(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0.6)
    watch = stage.watch()
    for _ in range(4):  # it opens and closes: never for long
        stage.things.breakers[DOWN] = State.OPEN
        await rounds(watch, 0.2)
        stage.things.breakers[DOWN] = State.CLOSED
        await watch.run()
    assert await stage.told() == []
    assert await stage.book().ls() == []
    for state in (State.OPEN, State.HALF_OPEN, State.OPEN, State.HALF_OPEN):
        stage.things.breakers[DOWN] = state
        await rounds(watch, 0.2)
    assert await stage.kinds() == [("opened", "breaker.open")]
    stage.things.breakers[DOWN] = State.CLOSED
    await rounds(watch, 0.4)
    assert await stage.kinds() == [("opened", "breaker.open"), ("resolved", "breaker.open")]


async def test_a_breaker_that_was_open_before_anybody_looked_has_been_open_since_then(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=60)
    stage.things.breakers[DOWN], stage.things.since_s = State.OPEN, time.time() - 50
    watch = stage.watch()
    await watch.run()
    assert await stage.told() == []
    stage.things.breakers["crm|https://other"], stage.things.since_s = State.OPEN, time.time() - 70
    await watch.run()
    assert [one["data"]["key"] for one in await stage.told()] == ["crm|https://other"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_pattern_is_opened_and_resolved_in_turn(redis: "Redis", seed: int) -> None:
    stage = AlertStage(redis, breaker_open_s=0, settle_s=0, most_per_hour=40)
    dice, control = random.Random(seed), stage.control
    watches = [stage.watch(str(number) * (number + 1)) for number in range(3)]
    names = [f"crm|https://{number}" for number in range(5)]
    for _ in range(150):
        stage.things.breakers[dice.choice(names)] = dice.choice([State.OPEN, State.CLOSED, State.HALF_OPEN])
        if dice.random() < 0.1 and (standing := await control.ls(whole=False)):
            await control.resolve(dice.choice(standing).alert, by="night", reason="known")
        await asyncio.gather(*(one.run() for one in dice.sample(watches, dice.randint(1, 3))), return_exceptions=False)
    histories: dict[str, list[tuple[str, str]]] = {}
    for one in await stage.told():
        histories.setdefault(one["data"]["key"], []).append((one["type"], one["data"]["alert"]))
    assert len({one["id"] for one in await stage.told()}) == len(await stage.told())
    for history in histories.values():
        opened, resolved = history[::2], history[1::2]
        assert {kind for kind, _ in opened} == {"alert.opened"}
        assert {kind for kind, _ in resolved} <= {"alert.resolved"}
        assert [alert for _, alert in resolved] == [alert for _, alert in opened][: len(resolved)]
    still = {one.subject for one in await control.ls(whole=False)}
    assert still == {key for key, history in histories.items() if len(history) % 2}


async def test_flapping_is_damped_more_and_more(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0, settle_s=0.05)
    watch = stage.watch()
    for _ in range(25):
        stage.things.breakers[DOWN] = State.OPEN
        await watch.run()
        stage.things.breakers.clear()
        await rounds(watch, 0.1)
    kinds = await stage.kinds()
    assert kinds[:2] == [("opened", "breaker.open"), ("resolved", "breaker.open")]
    assert len(kinds) <= 5, kinds  # 50 without damping: the second time it must be quiet for 0.1 s, the third for 0.2 s
    await rounds(watch, 0.5)
    assert (await stage.kinds())[-1] == ("resolved", "breaker.open")


async def test_what_cannot_be_seen_is_no_sign_that_it_is_well(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0, settle_s=0)
    watch = stage.watch()
    stage.things.breakers[DOWN] = State.OPEN
    await watch.run()
    stage.things.breakers.clear()
    stage.things.away = True
    await rounds(watch, 0.1)
    assert await stage.kinds() == [("opened", "breaker.open")]


async def test_too_many_patterns_at_once_are_told_as_one_and_none_is_lost(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0, most_per_hour=3, settle_s=0.1)
    watch = stage.watch()
    stage.things.breakers |= {f"crm|https://{number}.example.com": State.OPEN for number in range(8)}
    await rounds(watch, 0.2)
    kinds = await stage.kinds()
    assert kinds == [("opened", "breaker.open")] * 3 + [("opened", "alerts.capped")]
    (capped,) = [one for one in await stage.told() if one["data"]["kind"] == "alerts.capped"]
    assert (
        capped["data"]["sentence"] == "5 more patterns would have an alert, but no more than 3 are opened in an hour."
    )
    await stage.redis.delete(SHARD.key("opens"))  # the hour is over
    await rounds(watch, 0.2)
    assert (await stage.kinds()).count(("opened", "breaker.open")) == 6


async def test_a_persons_word_stands_until_the_pattern_was_quiet_once(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0, settle_s=0)
    watch, control = stage.watch(), stage.control
    stage.things.breakers[DOWN] = State.OPEN
    await watch.run()
    (record,) = await control.ls(whole=False)
    for reason in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(Unfit):
            await control.resolve(record.alert, by="night", reason=reason)
    said = [control.resolve(record.alert, by=who, reason="known") for who in ("night", "day", "boss")]
    answers = await asyncio.gather(*said, return_exceptions=True)
    assert sorted(type(one).__name__ for one in answers) == ["AlertRecord", "Conflict", "Conflict"]
    await rounds(watch, 0.2)
    assert await stage.kinds() == [("opened", "breaker.open"), ("resolved", "breaker.open")]
    last = (await stage.told())[-1]["data"]
    assert last["reason"] == "known"
    assert last["by"] in {"night", "day", "boss"}
    stage.things.breakers.clear()
    await watch.run()
    stage.things.breakers[DOWN] = State.OPEN
    await watch.run()
    assert len(await stage.kinds()) == 3
    with pytest.raises(Nowhere):
        await control.show("nobody")
    with pytest.raises((Nowhere, Conflict)):
        await control.resolve(record.alert, by="night", reason="again")


async def test_windows_are_bounded_and_forget_what_has_left_them(redis: "Redis") -> None:
    stage = AlertStage(redis, window_s=1)
    places: Any = stage.sources("x").windows
    places._most = 50
    for number in range(80):
        await stage.fail(1, f"v1:{number}", first=number)
    await stage.watch().count()
    books: Any = redis
    assert await books.hlen(SHARD.key("tallies")) <= 2000
    await stage.fail(1, "v1:last")
    assert await places.add("tool-events", await places.place("tool-events"), "9-0", [])
    assert await books.hlen(SHARD.key("tallies")) == await books.zcard(SHARD.key("tallied")) == 50
    await asyncio.sleep(1.2)
    assert await places.add("tool-events", "9-0", "10-0", [])
    assert await books.hlen(SHARD.key("tallies")) == 0


async def test_letters_pile_up_and_stop(redis: "Redis") -> None:
    stage = AlertStage(redis, letters_per_hour=5)
    record = {
        "identity": {"call": "c1"},
        "operation": {"tool": "crm.echo"},
        "grouping": {"fingerprint": "v1:aa"},
        "failure": {"class": "receive.reset"},
    }
    for _ in range(5):
        await stage.redis.xadd(TOPICS.letters, {"data": json.dumps({"data": record})})
    await stage.watch().run()
    assert await stage.kinds() == [("opened", "letters.growth")]
    assert (await stage.told())[0]["data"]["action"] == "sluice dlq groups"


async def test_a_record_in_redis_has_the_fields_that_are_read(redis: "Redis") -> None:
    stage = AlertStage(redis, breaker_open_s=0)
    stage.things.breakers[DOWN] = State.OPEN
    await stage.watch().run()
    (packed,) = (await stage.redis.hgetall(SHARD.key("alerts"))).values()
    (record,) = await stage.book().ls()
    assert set(msgspec.msgpack.decode(packed)) - {"base"} <= set(record.__struct_fields__)
