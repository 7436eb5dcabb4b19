"""Alerts sent to a scripted receiver: signed, at least once, always under the same id, whatever the receiver does."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from connectors.transport import Engine
from gateway.app import ambient
from gateway.flow.webhook import TURN, Mail, Webhook
from gateway.lanes.places import Places
from gateway.policy import webhooks
from gateway.policy.webhooks import Target, keys_of
from tests.alert_stage import SHARD, TOPICS
from tests.receiver import SECRET, Receiver, receiving

pytestmark = pytest.mark.wire


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BACKOFF_S", (0.02, 0.1))


def target(receiver: Receiver, *, private: bool = True) -> Target:
    keys = keys_of(SECRET)
    assert isinstance(keys, tuple)
    return Target(url=receiver.url, keys=keys, private=private)


@asynccontextmanager
async def sender(redis: "Redis", to: Target | None, name: str = "w", timeout_s: float = 0.3) -> AsyncIterator[Webhook]:
    engine, around = Engine(), ambient(name)
    await engine.open()
    books: Any = redis
    beat = SHARD.key(f"worker:{around.worker}")
    await books.set(beat, 1)
    mail = Mail(places=Places(redis, SHARD, around.worker), send=engine.send, alerts=[TOPICS.alerts], target=to)
    try:
        yield Webhook(mail, around, timeout_s=timeout_s, lease_s=2.0)
    finally:
        await engine.close()
        await books.delete(beat)


async def publish(redis: "Redis", *names: str, kind: str = "alert.opened") -> list[str]:
    books: Any = redis
    for name in names:
        event = {"type": kind, "id": f"{name}.opened", "time": "2026-11-20T09:00:00Z", "data": {"alert": name}}
        await books.xadd(TOPICS.alerts, {"data": json.dumps(event)})
    return [f"{name}.opened" for name in names]


async def until_taken(webhook: Webhook, receiver: Receiver, ids: list[str]) -> None:
    async with asyncio.timeout(20):
        while not set(ids) <= {one["id"] for one in receiver.taken}:
            await webhook.run()
            await asyncio.sleep(0.01)


async def test_alerts_arrive_in_order_signed_and_once_when_all_is_well(redis: "Redis", receiver: Receiver) -> None:
    async with sender(redis, target(receiver)) as webhook:
        ids = await publish(redis, *"abcde")
        await webhook.run()
        await webhook.run()
        ids += await publish(redis, *"fg")
        await webhook.run()
    assert [one["id"] for one in receiver.arrived] == ids
    assert receiver.arrived[0]["type"] == "alert.opened"
    assert receiver.arrived[0]["data"] == {"alert": "a"}


async def test_what_is_not_taken_is_sent_again_under_the_same_id_and_nothing_overtakes_it(
    redis: "Redis", receiver: Receiver
) -> None:
    receiver.script += [500, 503, 1.0, 302, 400, 200, 410]
    ids = await publish(redis, "a", "b", "c")
    async with sender(redis, target(receiver)) as webhook:
        await until_taken(webhook, receiver, ids)
    assert [one["id"] for one in receiver.arrived] == [ids[0]] * 6 + [ids[1]] * 2 + [ids[2]]
    assert len({one["body"] for one in receiver.arrived}) == 3
    assert [one["id"] for one in receiver.taken] == ids


async def test_a_receiver_that_is_away_is_asked_less_and_less_and_then_told_everything(
    redis: "Redis", receiver: Receiver
) -> None:
    ids = await publish(redis, "a", "b")
    nobody = replace(target(receiver), url="http://127.0.0.1:9/x?token=also")
    async with sender(redis, nobody) as webhook:
        with structlog.testing.capture_logs() as logs:
            for _ in range(30):
                await webhook.run()
                await asyncio.sleep(0.01)
    failed = [one for one in logs if one["event"] == "webhook.failed"]
    assert 3 <= len(failed) <= 12
    assert {one["host"] for one in failed} == {"127.0.0.1"}
    assert "token=also" not in repr(logs)
    async with sender(redis, target(receiver)) as webhook:
        await until_taken(webhook, receiver, ids)
    assert [one["id"] for one in receiver.arrived] == ids


async def test_a_receiver_that_asks_for_time_gets_it(
    redis: "Redis", receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BACKOFF_S", (0.02, 30.0))
    receiver.script += [429]
    receiver.retry_after = "20"
    await publish(redis, "a")
    async with sender(redis, target(receiver)) as webhook:
        with structlog.testing.capture_logs() as logs:
            await webhook.run()
            await asyncio.sleep(0.1)
            await webhook.run()
    assert len(receiver.arrived) == 1
    assert 16 <= logs[0]["again_in_s"] <= 20


async def test_a_sender_that_is_cut_off_in_the_middle_leaves_it_to_the_next(redis: "Redis", receiver: Receiver) -> None:
    ids = await publish(redis, "a", "b", "c")
    receiver.script += [200, 5.0]
    async with sender(redis, target(receiver), "first", timeout_s=4) as first:
        task = asyncio.create_task(first.run())
        while len(receiver.arrived) < 2:  # noqa: ASYNC110 - the receiver is a thread
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with sender(redis, target(receiver), "beside") as beside:
            await beside.run()
            assert len(receiver.arrived) == 2  # the first lives, and its turn has not ended
    async with sender(redis, target(receiver), "second") as second:
        await until_taken(second, receiver, ids)
    assert [one["id"] for one in receiver.arrived] == [ids[0], ids[1], ids[1], ids[2]]


async def test_many_senders_send_each_once(redis: "Redis", receiver: Receiver) -> None:
    ids = await publish(redis, *(f"n{number}" for number in range(40)))
    async with (
        sender(redis, target(receiver), "a") as one,
        sender(redis, target(receiver), "b") as two,
        sender(redis, target(receiver), "c") as three,
    ):
        await asyncio.gather(*(each.run() for each in (one, two, three) for _ in range(2)))
        await until_taken(one, receiver, ids)
    assert [one["id"] for one in receiver.arrived if one["id"] == ids[7]] == [ids[7]]
    assert sorted({one["id"] for one in receiver.arrived}) == sorted(ids)


async def test_a_private_address_is_only_dialled_when_that_is_allowed(redis: "Redis", receiver: Receiver) -> None:
    await publish(redis, "a")
    by_name = receiver.url.replace("127.0.0.1", "localhost").replace("http://", "https://")
    for url in (receiver.url, by_name):
        async with sender(redis, replace(target(receiver, private=False), url=url)) as webhook:
            with structlog.testing.capture_logs() as logs:
                await webhook.run()
            (one,) = (line for line in logs if line["event"] == "webhook.failed")
            assert "private" in one["problem"]
            await redis.delete(SHARD.key(f"turn:{TURN}"))
    assert receiver.arrived == []


async def test_what_is_older_than_a_day_is_given_up_and_a_new_webhook_is_told_of_the_last_hour(
    redis: "Redis", receiver: Receiver
) -> None:
    books: Any = redis
    places = Places(redis, SHARD, "look")
    now = await places.now_ms()
    for name, age_ms in (("old", 90_000_000), ("hours", 7_200_000), ("fresh", 60_000)):
        event = {"type": "alert.opened", "id": name, "time": "t", "data": {}}
        await books.xadd(TOPICS.alerts, {"data": json.dumps(event)}, id=f"{now - age_ms}-0")
    async with sender(redis, target(receiver)) as webhook:
        await webhook.run()
        assert [one["id"] for one in receiver.arrived] == ["fresh"]
        await books.hset(SHARD.key("cursors"), "webhook", "0-1")  # as after a long time away
        await webhook.run()
    assert [one["id"] for one in receiver.arrived] == ["fresh", "hours", "fresh"]


async def test_without_a_webhook_nothing_is_sent_or_kept(redis: "Redis") -> None:
    await publish(redis, "a")
    async with sender(redis, None) as webhook:
        await webhook.run()
    books: Any = redis
    assert await books.exists(SHARD.key("cursors"), SHARD.key(f"turn:{TURN}")) == 0
