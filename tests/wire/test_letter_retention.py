"""Letters do not grow for ever: what is over goes in its time, from Redis and from the disk, and what is open stays, however old."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dlq.blobs import BlobStore
from gateway.flow import letter_care
from gateway.flow.letter_care import LetterCare
from gateway.journal.letter_index import undecided
from gateway.journal.letters import LetterIndex
from gateway.lanes.letter_shelf import LetterShelf, Terms
from tests.served import Served, journalling, served
from tests.vendor.client import VendorProcess
from tests.wire.letters import BROKEN, SEND, declared, letter, listed, replayed, say, show

pytestmark = pytest.mark.wire

LARGE = "x" * 20_000
"""Beyond what stands in a letter itself."""
SOON: dict[str, Any] = {"keep_letters": 1, "trim_every": 0.1, "beat_every": 0.1}
LATER: dict[str, Any] = {"keep_letters": 3600, "beat_every": 0.1}


@pytest.fixture
def manifests(vendor: VendorProcess, tmp_path: Path) -> str:
    vendor.script("messages.send", BROKEN)
    return declared(vendor, tmp_path)


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, manifests: str) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", manifests, **LATER) as running:
        yield running


async def some(gateway: Served, count: int, text: str = LARGE) -> list[str]:
    return [await letter(gateway, SEND, {"ref": f"r{number}", "text": text}) for number in range(count)]


async def discarded(gateway: Served, *letters: str) -> None:
    for one in letters:
        assert (await say(gateway, one, "discard", reason="a test")).status_code == 200


def care_of(gateway: Served, *, keep_s: float = 0, wait_s: float = 3600) -> LetterCare:
    """Return the chore of another worker, with less patience."""
    parts = gateway.gateway
    shelf = LetterShelf(parts.redis, parts.topics, parts.lanes.home, Terms(keep_s=keep_s, wait_s=wait_s))
    journal = LetterIndex(parts.history.database)

    async def ask(letters: Any) -> set[str] | None:
        return await undecided(journal, letters)

    return LetterCare(shelf, BlobStore(parts.settings.data / "blobs", 1 << 30), ask, parts.ambient)


def files(gateway: Served) -> set[str]:
    """Return the letters that have files."""
    folder: Path = gateway.gateway.settings.data / "blobs"
    return {path.name.partition(".")[0] for path in folder.glob("*.sealed")}


async def kept(redis: Any) -> tuple[int, int, int, int]:
    """Count letters in the topic, open ones, and those that are told to be over, twice."""
    return (
        await redis.xlen("dead-letters"),
        await redis.hlen("{s0}:letters"),
        await redis.hlen("{s0}:over"),
        await redis.zcard("{s0}:aging"),
    )


async def until(question: Any, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not await question():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_what_is_over_goes_in_its_time_and_an_open_letter_before_it_stays_whole(
    redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess, manifests: str
) -> None:
    async with served(redis_url, tmp_path / "data", manifests, **SOON) as gateway:
        old, *rest = await some(gateway, 12)
        await discarded(gateway, *rest)

        async def gone() -> bool:
            return await kept(redis) == (1, 1, 0, 0) and files(gateway) == {old}

        await until(gone)
        assert [one["letter"] for one in await listed(gateway)] == [old]
        assert (await show(gateway, old, open="true"))["opened"]["arguments"]["text"] == LARGE
        vendor.script("messages.send")
        assert (await replayed(gateway, old))["progress"]["replayed_ok"] == 1
        assert vendor.counts().effects_total == 1
        await until(lambda: asyncio.sleep(0, files(gateway) == set()))
        assert await kept(redis) == (0, 0, 0, 0)


async def test_what_a_letter_became_is_told_until_it_is_forgotten(
    gateway: Served, redis: "Redis", vendor: VendorProcess
) -> None:
    one, two, three = await some(gateway, 3)
    await discarded(gateway, one)
    successor = (await replayed(gateway, two))["letters"][0]["successor"]
    books: Any = redis
    await books.delete("tool-events")
    told = {row["letter"]: (row["status"], row["reason"]) for row in await listed(gateway)}
    assert told == {
        one: ("discarded", "a test"),
        two: ("replayed_failed", "its replay failed and left a letter of its own"),
        three: ("open", None),
        successor: ("open", None),
    }
    assert await care_of(gateway, keep_s=3600).forget() == 0
    assert await care_of(gateway).forget() == 2
    assert files(gateway) == {three, successor}
    assert (await gateway.http.get(f"/v1/dead-letters/{one}")).status_code != 200


async def test_what_the_journal_has_not_written_stays_however_long_and_is_found_there_afterwards(
    redis: "Redis", redis_url: str, tmp_path: Path, manifests: str
) -> None:
    async with served(redis_url, tmp_path / "data", manifests, **LATER) as gateway:
        settings = gateway.gateway.settings
        await gateway.gateway.fleet.ensure_group("dead-letters")  # as a journal leaves it that is down
        first, second = await some(gateway, 2)
        await discarded(gateway, first, second)
        care = care_of(gateway, wait_s=0)
        assert await care.forget() == 0
        assert files(gateway) == {first, second}
        async with journalling(settings):
            gone = 0

            async def both() -> bool:
                nonlocal gone
                gone += await care.forget()
                return gone == 2

            await until(both)
            assert await kept(redis) == (0, 0, 0, 0)

            async def told() -> bool:
                return [row["status"] for row in await listed(gateway)] == ["discarded"] * 2

            await until(told)
        assert [row["letter"] for row in await listed(gateway)] == [second, first]
        assert (await show(gateway, first))["reason"] == "a test"
        assert files(gateway) == set()


async def test_a_foreign_group_that_is_behind_holds_back_what_it_has_not_read_and_only_for_its_time(
    gateway: Served, redis: "Redis"
) -> None:
    books: Any = redis
    first, second, third = await some(gateway, 3)
    await books.xgroup_create("dead-letters", "audit", id="0")
    await books.xreadgroup("audit", "one", {"dead-letters": ">"}, count=2)
    await books.xack("dead-letters", "audit", (await books.xrange("dead-letters", count=1))[0][0])
    await discarded(gateway, third, second, first)
    patient, hasty = care_of(gateway), care_of(gateway, wait_s=0)
    assert await patient.forget() == 1
    assert files(gateway) == {second, third}
    assert await patient.forget() == 0
    assert await hasty.forget() == 2
    assert await kept(redis) == (0, 0, 0, 0)


async def test_many_that_are_held_back_do_not_hide_those_that_are_not(
    gateway: Served, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_care, "AT_ONCE", 2)
    books: Any = redis
    letters = await some(gateway, 7, "short")
    await books.xgroup_create("dead-letters", "audit", id="0")
    await books.xreadgroup("audit", "one", {"dead-letters": ">"}, count=1)
    await books.xack("dead-letters", "audit", (await books.xrange("dead-letters", count=1))[0][0])
    await discarded(gateway, *letters[::-1])  # what nobody holds back was over last
    assert await care_of(gateway).forget() == 1
    assert (await kept(redis))[0] == 6


async def test_two_workers_at_once_forget_each_letter_once(gateway: Served, redis: "Redis") -> None:
    letters = await some(gateway, 6)
    await discarded(gateway, *letters)
    assert sum(await asyncio.gather(*(care_of(gateway).forget() for _ in range(4)))) == 6
    assert (await kept(redis), files(gateway)) == ((0, 0, 0, 0), set())


async def test_files_that_nothing_names_are_swept_after_a_grace_and_two_looks_and_no_others(
    gateway: Served, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    books: Any = redis
    opened, over, lost = await some(gateway, 3)
    await discarded(gateway, over)
    await books.hdel("{s0}:letters", lost)  # how it stands is lost, and its entry names the file
    patch = [{"op": "replace", "path": "/text", "value": LARGE}]
    made = await gateway.http.post(
        "/v1/replays",
        json={"ids": [opened], "patch": patch, "dry_run": True},
        headers={"Authorization": "Bearer key-of-night"},
    )
    replay = made.json()["replay"]
    folder = gateway.gateway.settings.data / "blobs"
    orphan = folder / "01JD3QZ8W4M5N6P7R8S9T0V1X2.rendered.arguments.sealed"
    orphan.write_bytes(b"of a settlement that lost its claim")
    care = care_of(gateway)
    assert [await care.sweep() for _ in range(3)] == [0, 0, 0]  # it is young
    for path in folder.glob("*.sealed"):
        os.utime(path, (1000, 1000))
    assert [await care.sweep() for _ in range(3)] == [0, 1, 0]
    assert files(gateway) == {opened, over, lost, replay}
    assert BlobStore(folder, 1 << 30).total() == sum(path.stat().st_size for path in folder.glob("*.sealed"))


async def test_the_files_of_a_letter_that_only_the_journal_knows_as_open_stay(
    redis: "Redis", redis_url: str, tmp_path: Path, manifests: str
) -> None:
    async with served(redis_url, tmp_path / "data", manifests, journals=True, **LATER) as gateway:
        (one,) = await some(gateway, 1)
        journal = LetterIndex(gateway.gateway.history.database)

        async def written() -> bool:
            return await undecided(journal, [one]) == {one}

        await until(written)
        for path in (gateway.gateway.settings.data / "blobs").glob("*.sealed"):
            os.utime(path, (1000, 1000))
        await redis.delete("dead-letters", "{s0}:letters")
        care = care_of(gateway)
        assert [await care.sweep() for _ in range(3)] == [0, 0, 0]
        assert files(gateway) == {one}


async def test_files_are_left_alone_while_the_journal_cannot_be_asked(
    gateway: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gateway.gateway.settings.data / "blobs"
    orphan = folder / "01JD3QZ8W4M5N6P7R8S9T0V1X2.rendered.arguments.sealed"
    orphan.write_bytes(b"x")
    os.utime(orphan, (1000, 1000))
    care = care_of(gateway)

    async def away(_: Any) -> None:
        return None

    monkeypatch.setattr(care, "_undecided", away)
    assert [await care.sweep() for _ in range(3)] == [0, 0, 0]
    assert orphan.exists()


async def test_who_dies_between_the_entry_and_its_file_leaves_an_orphan_that_is_swept(
    gateway: Served, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await some(gateway, 1)
    await discarded(gateway, one)
    dying = care_of(gateway)
    monkeypatch.setattr(BlobStore, "remove", _die)
    with pytest.raises(OSError, match="died"):
        await dying.forget()
    monkeypatch.undo()
    assert (await kept(redis), files(gateway)) == ((0, 0, 0, 0), {one})
    for path in (gateway.gateway.settings.data / "blobs").glob("*.sealed"):
        os.utime(path, (1000, 1000))
    care = care_of(gateway)
    assert await care.forget() == 0
    assert [await care.sweep(), await care.sweep(), files(gateway)] == [0, 1, set()]


def _die(*_: Any) -> None:
    raise OSError("died")
