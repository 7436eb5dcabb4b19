"""Whether an origin can be reached, on real sockets: nothing is ever sent, and all who ask at once share one connection."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from connectors.declared import Egress
from connectors.exchange import Fault
from connectors.reach import Reach
from tests.certificates import self_signed
from tests.tiny_vendor import listening

pytestmark = pytest.mark.wire

PRIVATE = Egress(allow_hosts=("127.0.0.1", "localhost", "no-such-host.invalid"), allow_private=True)


class Door:
    """Counts connections and what comes through them."""

    def __init__(self) -> None:
        self.connections, self.read = 0, b""

    async def serve(self, reader: asyncio.StreamReader, _: Any) -> None:
        self.connections += 1
        self.read += await reader.read()


def reach() -> Reach:
    return Reach(asyncio.get_running_loop().time)


async def test_200_who_ask_at_once_make_one_connection_and_send_nothing() -> None:
    door, probe = Door(), reach()
    async with listening(door.serve) as port:
        found = await asyncio.gather(*(probe.look(f"http://127.0.0.1:{port}/v1", PRIVATE) for _ in range(200)))
        again, age_s = await probe.look(f"http://127.0.0.1:{port}/other", PRIVATE)
        await asyncio.sleep(0.05)
    assert {one.fault for one, _ in found} == {None} == {again.fault}
    assert age_s >= 0
    assert (door.connections, door.read) == (1, b"")


@pytest.mark.parametrize(
    ("url", "egress", "fault", "says"),
    [
        ("https://other.example.com", PRIVATE, Fault.BLOCKED, "allow_hosts"),
        ("http://127.0.0.1", Egress(allow_hosts=("127.0.0.1",)), Fault.BLOCKED, "Plain http"),
        ("https://127.0.0.1", Egress(allow_hosts=("127.0.0.1",)), Fault.BLOCKED, "private address"),
        ("https://no-such-host.invalid", PRIVATE, Fault.DNS, "could not be resolved"),
        ("http://127.0.0.1:9", PRIVATE, Fault.REFUSED, "did not accept a connection"),
    ],
)
async def test_what_is_in_the_way_is_said(url: str, egress: Egress, fault: Fault, says: str) -> None:
    found, _ = await reach().look(url, egress)
    assert found.fault is fault
    assert says in found.detail


async def test_a_server_that_speaks_no_tls_is_said_to() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(babble) as port:
        found, _ = await Reach(asyncio.get_running_loop().time, ssl.create_default_context()).look(
            f"https://127.0.0.1:{port}", PRIVATE
        )
    assert found.fault is Fault.TLS


async def test_a_certificate_must_be_vouched_for_and_a_slow_end_is_no_failure(tmp_path: Path) -> None:
    async def hangs(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    context, loop = self_signed(tmp_path), asyncio.get_running_loop()
    trusting = Reach(loop.time, ssl.create_default_context(cafile=tmp_path / "certificate.pem"))
    async with listening(hangs, context) as port:
        began = loop.time()
        found, _ = await trusting.look(f"https://localhost:{port}", PRIVATE)
        assert (found.fault, "certificate is good" in found.detail, loop.time() - began < 2) == (None, True, True)
        found, _ = await reach().look(f"https://localhost:{port}", PRIVATE)
        assert (found.fault, "self-signed" in found.detail) == (Fault.TLS, True)


async def test_a_failure_is_looked_at_again_sooner_than_a_success() -> None:
    now, door = [0.0], Door()
    probe = Reach(lambda: now[0])
    assert (await probe.look("http://127.0.0.1:9", PRIVATE))[0].fault is Fault.REFUSED
    now[0] = 4.0
    assert (await probe.look("http://127.0.0.1:9", PRIVATE))[1] == 4.0
    now[0] = 6.0
    assert (await probe.look("http://127.0.0.1:9", PRIVATE))[1] == 0.0
    async with listening(door.serve) as port:
        for now[0] in (10.0, 39.0, 41.0):
            await probe.look(f"http://127.0.0.1:{port}", PRIVATE)
    assert door.connections == 2
