"""What can happen to the ground that the gateway stands on: Redis, its files and memory, the journal's disk, the bus."""

import contextlib
import resource
from collections.abc import Callable, Mapping
from itertools import count

from redis.exceptions import RedisError

from tests.faults.matrix.schedule import Fault
from tests.faults.matrix.stage import Stage

Heal = Callable[[], None]

_ghosts = count(1)


def nothing() -> None:
    """Need no healing."""


def redis_kill(stage: Stage, _: Fault) -> Heal:
    """SIGKILL; healed by a start on the same files."""
    stage.redis.kill()
    return stage.redis.start


def redis_stop(stage: Stage, _: Fault) -> Heal:
    """SIGSTOP: it takes connections and answers nobody."""
    stage.redis.suspend()
    return stage.redis.resume


def redis_truncate(stage: Stage, fault: Fault) -> Heal:
    """SIGKILL, and so many bytes of the newest file are lost, as after a power cut on a disk that lies."""
    stage.redis.kill()
    newest = max((stage.redis.home / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    with newest.open("rb+") as file:
        file.truncate(max(0, newest.stat().st_size - fault.amount))
    return stage.redis.start


def redis_full(stage: Stage, fault: Fault) -> Heal:
    """Its files may grow by so many bytes and no further; a server that writes `always` ends there."""
    newest = max((stage.redis.home / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    most = newest.stat().st_size + fault.amount
    resource.prlimit(stage.redis.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return stage.redis.give_room


def redis_memory(stage: Stage, _: Fault) -> Heal:
    """It has more than it may have, and evicts nothing."""
    stage.books.config_set("maxmemory", int(stage.books.info("memory")["used_memory"]) // 2)
    return lambda: _no_bound(stage)


def _no_bound(stage: Stage) -> None:
    stage.books.config_set("maxmemory", 0)


def journal_full(stage: Stage, fault: Fault) -> Heal:
    """The journal's files may grow by so many bytes and no further."""
    journal = stage.journal
    assert journal is not None
    base = stage.workers.folder / "data"
    largest = max((path.stat().st_size for path in base.glob("journal.db*")), default=0)
    resource.prlimit(journal.pid, resource.RLIMIT_FSIZE, (largest + fault.amount, resource.RLIM_INFINITY))
    free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    return lambda: _set(journal.pid, free)


def _set(pid: int, limits: tuple[int, int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def ghost(stage: Stage, fault: Fault) -> Heal:
    """A consumer takes so many events from the bus and is never heard of again."""
    with contextlib.suppress(RedisError):  # the group may not be there yet
        stage.books.xreadgroup("sluice", f"ghost-{next(_ghosts)}", {"tool-calls": ">"}, count=max(1, fault.amount))
    return nothing


GROUND: Mapping[str, Callable[[Stage, Fault], Heal]] = {
    "redis_kill": redis_kill,
    "redis_stop": redis_stop,
    "redis_truncate": redis_truncate,
    "redis_full": redis_full,
    "redis_memory": redis_memory,
    "journal_full": journal_full,
    "ghost": ghost,
}
