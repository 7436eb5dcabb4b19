"""How the gateway tells how much it does: metrics under names written once.

Never does I/O on the path of a call: recording is arithmetic in this process, and a scrape gathers. With several processes the
supervisor sets PROMETHEUS_MULTIPROC_DIR to a fresh directory before they start; without it a process shows its own numbers.
"""

import os
import sys
from collections import Counter as CountedBy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from connectors.breaking.breakers import Changed, told
from connectors.breaking.standing import State
from gateway.ports.load import Gauges
from schemas.contracts.finding import Finding
from schemas.lifecycle import CallState, HoldReason
from schemas.topics import Unread

log = structlog.get_logger()

EXPOSITION_TYPE: Final = CONTENT_TYPE_LATEST
MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


_WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class Name:
    """One metric; labels never hold a call id, an agent or a raw path."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


CALLS = Name("sluice_calls_total", "Calls that ended, by terminal state.", ("connector", "operation", "outcome"))
ATTEMPTS = Name(
    "sluice_upstream_attempts_total",
    "Attempts at vendors, by class of status.",
    ("connector", "operation", "status_class"),
)
DURATION = Name("sluice_upstream_duration_seconds", "Duration of attempts at vendors.", ("connector", "operation"))
EVENTS = Name("sluice_events", "Events by fate, as counted in Redis; `live` calls have not ended.", ("fate",))
QUEUE_DEPTH = Name("sluice_queue_depth", "Calls that have not ended.", ("connector",))
OLDEST = Name("sluice_queue_oldest_age_seconds", "Age of the oldest call at the head of a lane.", ("connector",))
RUNNABLE = Name(
    "sluice_runnable_backlog",
    "Calls that wait although nothing is known to hold them: the signal to scale on.",
    ("connector",),
)
BUDGET = Name(
    "sluice_rate_budget_remaining_ratio",
    "Share of a rate limit that is free now; of several connections the least.",
    ("connector", "limit"),
)
EXPIRY = Name(
    "sluice_token_expiry_timestamp_seconds",
    "When a connection's access token ends, in Unix time.",
    ("connector", "connection"),
)
QUEUE_BYTES = Name("sluice_queue_bytes", "Bytes that the calls in the queue take; bounded by SLUICE_QUEUE_BYTES.")
FLOODED = Name("sluice_queue_flooded", "1 while the queue is above its high watermark and takes nothing new.")
MEMORY = Name("sluice_redis_memory_bytes", "Memory of the working state's Redis.")
GATES = Name("sluice_gates_closed", "Gates and limits that are closed, by why.", ("reason",))
LETTERS = Name(
    "sluice_dead_letters",
    "Dead letters: open ones, which stay, and those that are over and not forgotten yet.",
    ("status",),
)
REFUSALS = Name("sluice_refusals_total", "Calls refused before they had a place in a lane, by failure.", ("class",))
LIMITED = Name(
    "sluice_rate_limited_total", "Answers in which the vendor asked to slow down.", ("connector", "operation")
)
TOKENS = Name(
    "sluice_token_refresh_total",
    "Requests for tokens and refused ones, by what came of them.",
    ("connector", "result"),
)
TOKEN_MOVES = Name(
    "sluice_token_transitions_total",
    "Changes of a credential's state, by the new one.",
    ("connector", "connection", "state"),
)
WAIT = Name(
    "sluice_queue_wait_seconds", "From accepting a call to the start of its first attempt.", ("connector", "operation")
)
BREAKER = Name(
    "sluice_breaker_state",
    "Breakers by origin: 1 at the state it is in, 0 at the others.",
    ("connector", "origin", "state"),
)
BREAKER_MOVES = Name(
    "sluice_breaker_transitions_total",
    "Changes of a breaker's state, by the new one.",
    ("connector", "origin", "state"),
)
FINDINGS = Name(
    "sluice_contract_violations_total",
    "Differences between answers and their contracts that were new, by kind and by how bad it is.",
    ("connector", "operation", "kind", "level"),
)
REPLAYS = Name("sluice_replays_total", "Calls that replayed a letter and ended, by what became of it.", ("result",))
JOURNAL_ROWS = Name("sluice_journal_rows_total", "Rows that the journal added or changed.", ("table",))
JOURNAL_UNREAD = Name("sluice_journal_unread", "Entries of a topic that are not in the journal yet.", ("topic",))
JOURNAL_LAG = Name("sluice_journal_lag_seconds", "Age of the oldest entry that is not in the journal yet.")
JOURNAL_SKIPPED = Name("sluice_journal_skipped_total", "Entries that are no events, or that the database refused.")
RELAYED = Name("sluice_relayed_total", "Events of the outbox that another bus has taken.")
BUILD = Name("sluice_build_info", "Always 1; the labels say what runs.", ("version", "python"))
NAMES: Final = (
    CALLS,
    ATTEMPTS,
    DURATION,
    WAIT,
    LIMITED,
    REFUSALS,
    FINDINGS,
    TOKENS,
    TOKEN_MOVES,
    EXPIRY,
    EVENTS,
    QUEUE_DEPTH,
    OLDEST,
    RUNNABLE,
    BUDGET,
    QUEUE_BYTES,
    FLOODED,
    MEMORY,
    GATES,
    LETTERS,
    REPLAYS,
    BREAKER,
    BREAKER_MOVES,
    JOURNAL_ROWS,
    JOURNAL_UNREAD,
    JOURNAL_LAG,
    JOURNAL_SKIPPED,
    RELAYED,
    BUILD,
)

_calls = Counter(CALLS.name, CALLS.help, CALLS.labels)
_attempts = Counter(ATTEMPTS.name, ATTEMPTS.help, ATTEMPTS.labels)
_durations = Histogram(DURATION.name, DURATION.help, DURATION.labels, buckets=_BUCKETS)
_waits = Histogram(WAIT.name, WAIT.help, WAIT.labels, buckets=_WAITS)
_limited = Counter(LIMITED.name, LIMITED.help, LIMITED.labels)
_tokens = Counter(TOKENS.name, TOKENS.help, TOKENS.labels)
_token_moves = Counter(TOKEN_MOVES.name, TOKEN_MOVES.help, TOKEN_MOVES.labels)
_findings = Counter(FINDINGS.name, FINDINGS.help, FINDINGS.labels)
_refusals = Counter(REFUSALS.name, REFUSALS.help, REFUSALS.labels)
# Every process hears of a change; of several that know a breaker, the one that heard last is right.
_breaker = Gauge(BREAKER.name, BREAKER.help, BREAKER.labels, multiprocess_mode="livemostrecent")
_breaker_moves = Counter(BREAKER_MOVES.name, BREAKER_MOVES.help, BREAKER_MOVES.labels)
_journal_rows = Counter(JOURNAL_ROWS.name, JOURNAL_ROWS.help, JOURNAL_ROWS.labels)
_journal_unread = Gauge(
    JOURNAL_UNREAD.name, JOURNAL_UNREAD.help, JOURNAL_UNREAD.labels, multiprocess_mode="livemostrecent"
)
_journal_lag = Gauge(JOURNAL_LAG.name, JOURNAL_LAG.help, multiprocess_mode="livemostrecent")
_journal_skipped = Counter(JOURNAL_SKIPPED.name, JOURNAL_SKIPPED.help)
_relayed = Counter(RELAYED.name, RELAYED.help)
_replays = Counter(REPLAYS.name, REPLAYS.help, REPLAYS.labels)


def record_attempt(connector: str, operation: str, *, status: int | None, duration_s: float) -> None:
    """Count one attempt; `status` is None when the vendor did not answer."""
    _attempts.labels(connector, operation, status_class(status)).inc()
    _durations.labels(connector, operation).observe(duration_s)


def record_end(connector: str, operation: str, *, outcome: str, replay: bool = False) -> None:
    """Count one call's end; `outcome` is its terminal state, `replay` says that it replayed a letter."""
    _calls.labels(connector, operation, outcome).inc()
    if replay:
        _replays.labels("replayed_ok" if outcome == CallState.COMPLETED else "replayed_failed").inc()


def record_wait(connector: str, operation: str, *, wait_s: float) -> None:
    """Note how long a call waited for its first attempt."""
    _waits.labels(connector, operation).observe(wait_s)


def record_limited(connector: str, operation: str) -> None:
    """Count one answer in which the vendor asked to slow down."""
    _limited.labels(connector, operation).inc()


def record_token(connector: str, result: str) -> None:
    """Count one request for a token by what came of it, or one that a vendor refused."""
    _tokens.labels(connector, result).inc()


def record_token_move(connector: str, connection: str, state: str) -> None:
    """Count one change of a credential's state."""
    _token_moves.labels(connector, connection, state).inc()


def record_finding(tool: str, found: Finding) -> None:
    """Count one difference between answers and their contract that nobody had seen before."""
    connector, _, operation = tool.partition(".")
    _findings.labels(connector, operation, found.kind, found.level).inc()


def record_refusal(failure: str) -> None:
    """Count one call that was refused on its way in."""
    _refusals.labels(failure).inc()


def record_journal(rows: Mapping[str, int]) -> None:
    """Count rows that a commit of the journal added or changed, by table."""
    for table, count in rows.items():
        _journal_rows.labels(table).inc(count)


def record_skipped() -> None:
    """Count one entry that the journal could not take."""
    _journal_skipped.inc()


def record_unread(topics: Iterable[Unread], now_us: int) -> None:
    """Note how far the journal is behind."""
    oldest_us = now_us
    for one in topics:
        _journal_unread.labels(one.topic).set(one.entries)
        oldest_us = min(oldest_us, one.oldest_us or now_us)
    _journal_lag.set((now_us - oldest_us) / 1_000_000)


def record_relayed(events: int) -> None:
    """Count what another bus has taken."""
    _relayed.inc(events)


def record_breaker(changed: Changed) -> None:
    """Note how a breaker stands; where this process changed it for all, count and log that, once for the fleet."""
    connector, _, origin = changed.key.partition("|")
    state = changed.standing.state
    for one in State:
        _breaker.labels(connector, origin, one).set(one is state)
    if changed.before is not None:
        _breaker_moves.labels(connector, origin, state).inc()
        log.warning("breaker.changed", **told(changed))


def status_class(status: int | None) -> str:
    """Return `2xx` and the like, or `none`."""
    return "none" if status is None else f"{status // 100}xx"


def exposition(events: Mapping[str, int], gauges: Gauges | None = None) -> bytes:
    """Return every metric in Prometheus' text format; `events` are the counts by fate, None is a queue nobody could look at."""
    registry = REGISTRY
    if os.environ.get(MULTIPROCESS):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    own = CollectorRegistry()
    own.register(_Facts(events, gauges))
    return generate_latest(registry) + generate_latest(own)


class _Facts:
    """Metrics that are looked up at a scrape instead of counted."""

    def __init__(self, events: Mapping[str, int], gauges: Gauges | None) -> None:
        self._events = events
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Yield them."""
        yield _family(BUILD, {(version("sluice"), ".".join(map(str, sys.version_info[:3]))): 1})
        yield _family(EVENTS, {(fate,): count for fate, count in sorted(self._events.items())})
        if self._gauges is None:
            return
        load, reasons = self._gauges.load, CountedBy(one.reason for one in self._gauges.closed)
        yield _family(QUEUE_DEPTH, {(name,): count for name, count in sorted(self._gauges.calls.items())})
        yield _family(OLDEST, {(name,): one.oldest_s for name, one in sorted(self._gauges.waits.items())})
        yield _family(RUNNABLE, {(name,): one.runnable for name, one in sorted(self._gauges.waits.items())})
        yield _family(BUDGET, dict(sorted(self._gauges.budgets.items())))
        yield _family(EXPIRY, dict(sorted(self._gauges.expiries.items())))
        yield _family(QUEUE_BYTES, {(): load.call_bytes})
        yield _family(FLOODED, {(): int(load.flooded)})
        yield _family(MEMORY, {(): load.memory_bytes})
        yield _family(LETTERS, {(status,): count for status, count in sorted(self._gauges.letters.items())})
        yield _family(GATES, {(reason,): reasons[reason] for reason in HoldReason})


def _family(name: Name, samples: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name.name, name.help, labels=name.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
