"""Bombs, drips and floods: what a vendor or a client sends without measure costs no more than 50 MB, and ends in time.

Memory is the kernel's high-water mark of the real worker and the real API, set back before each attack: also what was taken for a
moment only is seen.
"""

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.security.bomber import ATTACKS, Bomber
from tests.security.estate import OPERATOR, TESTER, Estate
from tests.served import bearer

pytestmark = pytest.mark.wire

MOST_MB = 50.0
AT_ONCE = 6
TIMEOUT_S = 4.0
SLACK_S = 25.0
"""For a busy machine; an attack that is not stopped lasts a minute, or for ever."""
NO_HEAD = {"drip-head", "headers-many", "header-long", "status-long", "informational", "early-hints", "noise"}
"""Attacks in which no status was ever told: nobody knows whether a write ran."""


class Memory:
    """The memory of one process."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)
        self._before = self._read("VmRSS")
        (self._proc / "clear_refs").write_text("5")

    def _read(self, name: str) -> float:
        line = next(one for one in (self._proc / "status").read_text().splitlines() if one.startswith(name))
        return int(line.split()[1]) / 1024

    @property
    def grown_mb(self) -> float:
        """By how much it was at most larger than at the beginning."""
        return self._read("VmHWM") - self._before


def attack(one: Estate, name: str, verb: str) -> dict[str, Any]:
    """Call a vendor that does this; waits for the end."""
    began = time.monotonic()
    body = {"tool": f"bomber.{verb}", "arguments": {"attack": name}}
    answer = one.ask(TESTER, "POST", "/v1/calls", json=body, headers={"Prefer": "wait=28"})
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    told: dict[str, Any] = answer.json()
    return told


@pytest.fixture(scope="module")
def warm(shared: Estate) -> Estate:
    """Everything is imported and every pool is filled before memory is compared."""
    for verb in ("read", "write"):
        attack(shared, "br", verb)
    return shared


def test_a_vendor_s_answer_without_measure_ends_in_time_and_costs_little_memory(
    warm: Estate, attacker: Bomber, record_property: Callable[[str, object], None]
) -> None:
    before = attacker.arrivals.copy()
    memory = Memory(warm.ground.processes["worker-1"])
    names = list(ATTACKS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = dict(zip(names, pool.map(lambda name: attack(warm, name, "write"), names), strict=True))
    grown = memory.grown_mb
    record_property("summary", f"{len(names)} floods of a vendor, {AT_ONCE} at once: +{grown:.1f} MB in the worker")
    assert grown < MOST_MB
    for name, told in ended.items():
        assert attacker.arrivals[name] - before[name] == 1, f"{name} was asked again"
        assert told["effect"] == ("unknown" if name in NO_HEAD else "executed"), (name, told)
        assert told["state"] in {"escalated", "failed", "completed"}, (name, told)
        if name in NO_HEAD:
            assert told["state"] == "escalated", (name, told)


def test_of_a_read_nothing_ran_and_the_worker_goes_on(warm: Estate) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for told in pool.map(
            lambda name: attack(warm, name, "read"), ("gzip", "chunked", "informational", "many-lists")
        ):
            assert told["effect"] == "not_executed"
            assert told["state"] in {"failed", "completed"}
    assert "worker-1" in warm.ground.processes
    assert "delivery.broken" not in warm.ground.log.read_text(encoding="utf-8")


def raw(one: Estate, *parts: bytes, most_s: float = 20.0) -> bytes:
    """Send bytes as they are, and return what the API says before it closes, or before it is over."""
    with socket.create_connection(("127.0.0.1", one.ground.port), timeout=most_s) as wire:
        answer = b""
        with suppress(OSError):
            for part in parts:
                wire.sendall(part)
        with suppress(OSError):
            while b"\r\n\r\n" not in answer and (more := wire.recv(65_536)):
                answer += more
        return answer


def posted(body: bytes, *headers: bytes) -> bytes:
    key = bearer(TESTER)["Authorization"].encode()
    lines = [b"POST /v1/calls HTTP/1.1", b"Host: localhost", b"Authorization: " + key, *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def call(arguments: bytes) -> bytes:
    return b'{"tool": "bomber.read", "arguments": ' + arguments + b"}"


def chunked() -> Iterator[bytes]:
    yield posted(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for _ in range(2000):
        yield b"10000\r\n" + b"x" * 65_536 + b"\r\n"


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "deep lists": lambda: iter([posted(call(b"[" * 100_000))]),
    "deep objects": lambda: iter([posted(call(b'{"a":' * 40_000))]),
    "many lists": lambda: iter([posted(call(b'{"a":[' + b"[]," * 80_000 + b"1]}"))]),
    "many keys": lambda: iter([posted(call(b"{" + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}"))]),
    "long number": lambda: iter([posted(call(b'{"a":' + b"1" * 200_000 + b"}"))]),
    "too large": lambda: iter([posted(b"x" * 3_000_000)]),
    "gzip": lambda: iter([posted(gzip.compress(bytes(64 << 20)), b"Content-Encoding: gzip")]),
    "a gigabyte": lambda: iter([posted(b"").replace(b"Length: 0", b"Length: 1073741824"), *[b"x" * 65_536] * 200]),
    "chunked": chunked,
    "headers": lambda: iter([b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X-F: y\r\n" * 200_000 + b"\r\n"]),
    "long header": lambda: iter([b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-F: " + b"y" * 4_000_000 + b"\r\n\r\n"]),
    "long path": lambda: iter([b"GET /" + b"y" * 4_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"]),
    "long query": lambda: iter([b"GET /livez?" + b"a=b&" * 15_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"]),
    "noise": lambda: iter([b"\x00\xff" * 1_000_000]),
}


def test_a_client_without_measure_is_refused_and_costs_little_memory(
    warm: Estate, record_property: Callable[[str, object], None]
) -> None:
    memory = Memory(warm.ground.processes["api"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda name: (name, raw(warm, *FLOODS[name]())), list(FLOODS) * 2))
    record_property(
        "summary", f"{len(answers)} floods of clients, {AT_ONCE} at once: +{memory.grown_mb:.1f} MB in the API"
    )
    assert memory.grown_mb < MOST_MB
    for name, answer in answers:
        status = answer.split(b" ")[1] if answer else b"closed"
        assert status in {b"closed", b"400", b"404", b"408", b"413", b"414", b"422", b"431", b"200"}, (
            name,
            answer[:200],
        )
        assert status != b"200" or name == "long query", name


def test_connections_that_say_nearly_nothing_cost_little_and_keep_nobody_out(warm: Estate) -> None:
    memory, held = Memory(warm.ground.processes["api"]), []
    try:
        for number in range(300):
            wire = socket.create_connection(("127.0.0.1", warm.ground.port), timeout=10)
            held.append(wire)
            wire.sendall(posted(b"x" * 1000)[: -(number % 900) - 1])
        assert warm.ask(None, "GET", "/livez").status_code == 200
        assert warm.ask(OPERATOR, "GET", "/v1/lanes").status_code == 200
        assert memory.grown_mb < MOST_MB
    finally:
        for wire in held:
            wire.close()
    assert json.loads(warm.ask(None, "GET", "/readyz").content)["status"] == "ready"
