"""Where a row is played: a Redis of its own that can be killed, a vendor, a proxy before each, and worker processes."""

import json
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from ruamel.yaml import YAML

from tests.demo import ledger
from tests.faults.conftest import Workers, free_port
from tests.faults.matrix.load import ALL, CREDENTIAL, Call
from tests.faults.matrix.proxy import Proxy, ProxyLoop
from tests.faults.matrix.recording import Limit, Size, Violation
from tests.redis_pair import Server
from tests.vendor.client import VendorProcess

PATIENCE_S = 20.0
MAIN = "crm-main"


def patience() -> float:
    """Return by how much longer everything may take, since others want the same cores: 1 on a machine that has time."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a row wants to find on the stage."""

    workers: int = 2
    classes: Sequence[str] = ALL
    limits: Sequence[Limit] = ()
    """Declared in the manifest, and what invariant R holds the vendor's arrivals against."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Over the connector's `defaults`: timeout, retry, breaker."""
    operations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Over single operations of the manifest."""
    environment: Mapping[str, str] = field(default_factory=dict)
    broken_every: int = 0
    """After each so many calls comes an event that cannot be read; 0: none."""
    journal: bool = False
    documents: Sequence[Mapping[str, Any]] = ()
    """More manifests: agents, operators, connections."""
    auth: Mapping[str, Any] | None = None
    """Instead of the API key that every row shows the vendor."""
    module: str = ""
    """Run workers as this module, e.g. tests.faults.shifted, with `module_arguments`."""


class Stage:
    """One run's processes, and the hands to touch them with."""

    def __init__(self, setting: Setting, folder: Path, vendor: VendorProcess, dice: Random) -> None:
        self.setting, self.folder, self.vendor, self.dice = setting, folder, vendor, dice
        self.loop = ProxyLoop()
        self.redis = Server(folder, "redis")
        self.books: Any = Redis(port=self.redis.port, socket_timeout=15)
        # By itself the client would publish again, and tell nobody.
        self._bus: Any = Redis(port=self.redis.port, socket_timeout=15, retry=Retry(NoBackoff(), 0))
        self.redis_proxy = Proxy(self.loop, self.redis.port, dice)
        self.vendor_proxy = Proxy(self.loop, int(vendor.url.rpartition(":")[2]), dice)
        vendor.reset()
        (folder / "gateway").mkdir()
        url = f"http://127.0.0.1:{self.vendor_proxy.port}"
        self.workers = Workers(f"redis://127.0.0.1:{self.redis_proxy.port}/0", folder / "gateway", url)
        self.workers.environment |= {"CRM_KEY": CREDENTIAL, "SLUICE_PORT": str(free_port()), **setting.environment}
        self.clock = folder / "clock"
        self.clock.write_text("0")
        self.declare()
        self.team: list[subprocess.Popen[bytes]] = []
        self.calls: dict[str, Call] = {}
        self.published = 0
        self.demands: list[Violation] = []
        self.sizes: list[tuple[str, Size, Size]] = []
        self.approved: dict[str, int] = {}
        self.may_be_lost: set[str] = set()
        self.bystanders: dict[str, int] = {}
        self.counted = True
        self.healed_at = time.monotonic()
        self._publishing = threading.Lock()
        self.journal: subprocess.Popen[bytes] | None = None

    # The manifest

    def declare(self) -> None:
        """Write the manifest that the row wants; every key of it can be looked up in tests/vendor/connectors.yaml."""
        path = self.workers.folder / "connectors.d" / "crm.yaml"
        connector = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        setting = self.setting
        connector["defaults"] = {**connector["defaults"], "timeout": "1s", **setting.defaults}
        for name, more in setting.operations.items():
            connector["operations"].setdefault(name, {}).update(more)
        for number, limit in enumerate(setting.limits):
            _limit(connector, f"limit{number}", limit)
        documents = [connector, *setting.documents]
        if setting.auth is None:
            connector["auth"] = {"type": "api_key", "in": "header", "name": "X-Api-Key"}
            secrets = {"api_key": "${env:CRM_KEY}"}
            documents.append({**_HEAD, "metadata": {"name": MAIN, "connector": "crm"}, "secrets": secrets})
            self.vendor.auth("api_key", CREDENTIAL)
        else:
            connector["auth"] = dict(setting.auth)
        path.write_text("\n---\n".join(json.dumps(document) for document in documents), encoding="utf-8")

    # Processes

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker of the team."""
        module = self.setting.module
        started = self.workers.start_module(module, str(self.clock)) if module else self.workers.start()
        self.team.append(started)
        return started

    def start_team(self) -> None:
        """Start as many workers as the setting says, the journal if it says so, and wait until they serve."""
        ready = self.workers.log.count("worker.started") if self.started_before else 0
        for _ in range(self.setting.workers):
            self.start_worker()
        if self.setting.journal and self.journal is None:
            self.journal = self.workers.start_role("journal")
        self.until(
            lambda: self.workers.log.count("worker.started") >= ready + self.setting.workers,
            "workers start",
            within_s=60,
        )

    @property
    def started_before(self) -> bool:
        return (self.workers.folder / "log").exists()

    @property
    def alive(self) -> list[subprocess.Popen[bytes]]:
        """The workers of the team that still run."""
        return [one for one in self.team if one.poll() is None]

    # The agents

    def publish(self, *calls: Call) -> None:
        """Publish as a patient agent does: again, until somebody says that it has it."""
        for one in calls:
            self.calls[one.id] = one
            self.publish_raw(one.raw)

    def publish_raw(self, raw: bytes) -> None:
        """Publish bytes that may be no event at all."""
        give_up = time.monotonic() + 60
        while True:
            try:
                self._bus.xadd("tool-calls", {"data": raw})
            except RedisError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)
            else:
                with self._publishing:
                    self.published += 1
                return

    # Waiting and asking

    def until(self, holds: Callable[[], object], what: str, *, within_s: float = PATIENCE_S) -> bool:
        """Wait until it holds; a demand of the row that is not met when it does not come."""
        give_up = time.monotonic() + within_s * patience()
        while time.monotonic() < give_up:
            if holds():
                return True
            time.sleep(0.02)
        self.demand(False, f"did not come within {within_s:g} s: {what}", self.log_tail)
        return False

    def demand(self, holds: object, what: str, evidence: str = "") -> None:
        """Ask for something of this row alone; it counts as a violation when it does not hold."""
        if not holds:
            self.demands.append(Violation("X", what, evidence))

    def sums(self) -> ledger.Sums:
        return ledger.sums(self.books)

    def quiet(self, within_s: float) -> float | None:
        """Wait until all that was published has ended, and return how long after the last healing that was."""
        while (since := time.monotonic() - self.healed_at) < within_s:
            if self.is_quiet():
                return since
            time.sleep(0.05)
        return None

    def until_quiet(self) -> None:
        """Wait, within a row, until all that was published so far has ended."""
        self.until(self.is_quiet, "all that was published has ended", within_s=40)

    def is_quiet(self) -> bool:
        """Tell whether all that was published has ended."""
        try:
            sums = self.sums()
            pending = self.books.xpending("tool-calls", "sluice")["pending"]
        except RedisError:
            return False
        return bool(sums["received"] >= self.published and sums.live == 0 and pending == 0)

    def healed(self) -> None:
        """From now on it is the gateway's own time that runs."""
        self.healed_at = time.monotonic()

    @property
    def log_tail(self) -> str:
        return self.workers.log[-1500:] if self.started_before else ""

    def journal_is_level(self) -> bool:
        """Tell whether the journal has written everything that it was sent."""
        topics = ("tool-events", "tool-results", "dead-letters")
        groups = [self.books.xinfo_groups(topic) for topic in topics if self.books.exists(topic)]
        return all(found and all(one["pending"] == 0 and one["lag"] == 0 for one in found) for found in groups)

    def journal_rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the journal's database, as an outsider."""
        path = self.workers.folder / "data" / "journal.db"
        opened = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return list(opened.execute(sql))
        finally:
            opened.close()

    def measure(self, process: subprocess.Popen[bytes]) -> Size:
        """Look how much memory and how many descriptors a process has."""
        home = Path("/proc") / str(process.pid)
        pages = int((home / "statm").read_text().split()[1])
        return Size(pages * os.sysconf("SC_PAGE_SIZE"), len(list((home / "fd").iterdir())))

    def close(self) -> None:
        self.workers.stop()
        self.redis_proxy.close()
        self.vendor_proxy.close()
        self.books.close()
        self._bus.close()
        self.redis.kill()
        self.loop.stop()


_HEAD = {"apiVersion": "sluice/v1", "kind": "Connection"}


def _limit(connector: dict[str, Any], name: str, limit: Limit) -> None:
    unit = {1.0: "s", 60.0: "min", 3600.0: "h"}.get(limit.window_s, "")
    rule: dict[str, Any] = {"rate": f"{limit.most}/{unit}"} if unit else {"concurrency": limit.most}
    connector.setdefault("limits", {})[name] = {**rule, "per": limit.per}
    places = [connector["operations"][one] for one in limit.operations] or [connector["defaults"]]
    for place in places:
        place.setdefault("limits", {})[name] = 1
