"""The benchmarks run and their tables are complete. Times are judged by a full run on a quiet machine; bytes are the same anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bench import journal, lanes
from bench.memory import take_in
from bench.report import HEADINGS, Line, markdown, write
from schemas.topics import Shard, Topics

ROOT = Path(__file__).parents[2]
MEASURES = [
    "Redis per queued 1 KB call",
    "  its event on tool-events",
    *(f"cycle, {number} lanes" for number in (1, 10, 100)),
    *(f"cycle, {name}" for name in ("no limit", "one strict", "three strict", "soft", "weighted", "100,000 a window")),
    *(f"claim of {count}, {number} parked" for count in ("none", "one") for number in (10, 200)),
    "cycle, 256 queued",
    "cycle, 4,000 queued",
    "claim, 4,000 queued, p50",
    "claim, 4,000 queued, p99",
]


def test_a_quick_run_of_lanes_gives_the_whole_table_and_leaves_the_document_alone() -> None:
    before = lanes.DOCUMENT.read_bytes()
    command = [sys.executable, "-m", "bench", "lanes", "--quick", "--date", "2026-11-20"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    table, machine = ran.stdout.rstrip().split("\n\n")
    rows = table.splitlines()
    assert [heading for heading in HEADINGS if heading not in rows[0]] == []
    assert [row[:28].rstrip() for row in rows[2:]] == MEASURES
    assert max(map(len, rows)) <= 80
    assert all(any(letter.isdigit() for letter in row[28:]) for row in rows[2:])
    facts = dict(line.split(": ", 1) for line in machine.splitlines())
    assert set(facts) == {"date", "commit", "cores", "kernel", "server", "python"}
    assert facts["date"] == "2026-11-20"
    assert "appendfsync always" in facts["server"]
    assert lanes.DOCUMENT.read_bytes() == before


def test_a_quick_run_of_journal_keeps_its_gates_and_leaves_the_document_alone() -> None:
    before = journal.DOCUMENT.read_bytes()
    command = [sys.executable, "-m", "bench", "journal", "--quick", "--date", "2026-11-20"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    table, facts = ran.stdout.rstrip().split("\n\n")
    rows = table.splitlines()
    assert [row[:28].rstrip() for row in rows[2:]] == [name for name, _ in journal.questions(20_000)]
    assert max(map(len, rows)) <= 80
    assert "calls: 20,000, with 60,000 events" in facts
    assert journal.DOCUMENT.read_bytes() == before


def test_a_quick_run_of_calls_compares_everybody_and_leaves_the_document_alone() -> None:
    before = lanes.DOCUMENT.read_bytes()
    command = [sys.executable, "-m", "bench", "calls", "--quick", "--date", "2026-11-20"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    table, facts = ran.stdout.rstrip().split("\n\n")
    rows = table.splitlines()
    compared = [
        "(a) bare aiohttp loop",
        "(c) Sluice, every guard",
        *(f"(b) {name}" for name in ("httpx", "httpx2", "aiohttp")),
    ]
    added = [f"added at {load}, {part}" for load in ("half load", "1,000 calls/s") for part in ("p50", "p99")]
    assert [row[:28].rstrip() for row in rows[2:]] == [*compared, "worker CPU per call", *added]
    assert all(any(letter.isdigit() for letter in row[28:]) for row in rows[2:])
    assert "journal: " in facts
    assert lanes.DOCUMENT.read_bytes() == before


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "bench", "lane"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "there is no `lane`; there is journal, lanes" in ran.stderr


def test_the_document_keeps_its_prose_and_gets_the_new_block(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- measured: lanes -->\nold\n<!-- measured -->\nafter\n", encoding="utf-8")
    block = markdown([Line(measure="m", clock="1 us", gate="<= 2", kept=False)], {"cores": "2"})
    for _ in range(2):
        write(document, "lanes", block)
        written = document.read_text(encoding="utf-8")
        assert written.startswith("before\n<!-- measured: lanes -->\n")
        assert written.endswith("<!-- measured -->\nafter\n")
        assert "- cores: 2" in written
        assert "| m | 1 us |  |  | <= 2 | NO |" in written
        assert "old" not in written


def test_a_document_without_the_marks_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("prose", encoding="utf-8")
    with pytest.raises(ValueError, match="no marks"):
        write(document, "lanes", "block")


async def test_a_queued_call_takes_no_more_of_redis_than_its_gate(redis: "Redis") -> None:
    calls, topics = 2_000, Topics("gate-")
    await take_in(redis, topics, calls)
    taken: dict[str, int] = {}
    async for key in redis.scan_iter(match=f"{Shard(topics.prefix).tag}:*", count=1_000):
        kind = key.decode().split(":")[1]
        taken[kind] = taken.get(kind, 0) + (await redis.memory_usage(key, samples=0) or 0)
    each = {kind: round(size / calls) for kind, size in sorted(taken.items(), key=lambda one: -one[1])}
    assert set(each) >= {"calls", "runs", "idem", "deadlines", "lane"}
    assert sum(taken.values()) / calls <= lanes.MEMORY_GATE_BYTES, each
