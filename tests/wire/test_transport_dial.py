"""Up to the connection: whom the transport dials, whom it does not, and that a failed dial proves nothing was sent."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.exchange import Fault, NotSent
from connectors.transport import Engine
from tests.certificates import self_signed
from tests.tiny_vendor import OK, POLICY, Vendor, get, is_answered, listening, request, sends, vendor

pytestmark = pytest.mark.wire


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    await made.open()
    yield made
    await made.close()


async def test_a_refused_connection_is_proof_that_nothing_was_sent(engine: Engine) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{placeholder.getsockname()[1]}/?key=hunter2"
        exchange = await engine.send(request(url), POLICY)
    assert isinstance(exchange, NotSent)
    assert exchange.fault is Fault.REFUSED
    assert "hunter2" not in exchange.message


async def test_a_connection_that_never_comes_about_in_time_was_not_sent(engine: Engine) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        exchange = await engine.send(get(f"http://127.0.0.1:{port}/"), replace(POLICY, timeout_s=0.3))
        for filler in fillers:
            filler.close()
    assert isinstance(exchange, NotSent)
    assert exchange.fault is Fault.CONNECT_TIMEOUT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_blocked_where_it_is_dialled(engine: Engine, host: str) -> None:
    async with vendor(sends(OK)) as upstream:
        url = f"http://{host}:{upstream.port}/"
        exchange = await engine.send(get(url), replace(POLICY, allow_private=False))
        assert isinstance(exchange, NotSent), exchange
        assert exchange.fault is Fault.BLOCKED
        assert "private address" in exchange.message
        assert upstream.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1"])
async def test_numbers_that_only_a_resolver_takes_for_an_address_lead_nowhere(engine: Engine, host: str) -> None:
    async with vendor(sends(OK)) as upstream:
        exchange = await engine.send(get(f"http://{host}:{upstream.port}/"), replace(POLICY, allow_private=False))
        assert isinstance(exchange, NotSent)
        assert exchange.fault in {Fault.BLOCKED, Fault.URL}
        assert upstream.connections == 0


async def test_a_connection_opened_with_allow_private_is_not_lent_to_those_without(engine: Engine) -> None:
    async with vendor(sends(OK)) as upstream:
        is_answered(await engine.send(get(upstream.url), POLICY))
        exchange = await engine.send(get(upstream.url), replace(POLICY, allow_private=False))
    assert isinstance(exchange, NotSent)


async def test_the_metadata_service_is_blocked_also_with_allow_private(engine: Engine) -> None:
    exchange = await engine.send(get("http://169.254.169.254/latest/meta-data/"), POLICY)
    assert isinstance(exchange, NotSent)
    assert exchange.fault is Fault.BLOCKED


async def test_a_name_that_does_not_resolve_was_not_sent(engine: Engine) -> None:
    exchange = await engine.send(get("http://no-such-host.invalid/"), replace(POLICY, timeout_s=20))
    assert isinstance(exchange, NotSent)
    assert exchange.fault in {Fault.DNS, Fault.CONNECT_TIMEOUT}
    assert "no-such-host.invalid" in exchange.message


async def test_tls_to_a_plain_port_was_not_sent(engine: Engine) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(plain) as port:
        exchange = await engine.send(get(f"https://127.0.0.1:{port}/"), POLICY)
    assert isinstance(exchange, NotSent)
    assert exchange.fault is Fault.TLS


async def test_environment_proxies_are_ignored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with vendor(sends(OK)) as upstream:
        assert is_answered(await engine.send(get(upstream.url), POLICY)).status == 200


async def test_a_certificate_nobody_vouches_for_was_not_sent(tmp_path: Path) -> None:
    context = self_signed(tmp_path)
    doubting, trusting = Engine(), Engine(ssl.create_default_context(cafile=tmp_path / "certificate.pem"))
    await doubting.open()
    await trusting.open()
    async with listening(Vendor(sends(OK)).serve, context) as port:
        exchange = await doubting.send(get(f"https://localhost:{port}/"), POLICY)
        assert isinstance(exchange, NotSent)
        assert exchange.fault is Fault.TLS
        assert "self-signed" in exchange.message
        assert is_answered(await trusting.send(get(f"https://localhost:{port}/"), POLICY)).body == b"{}"
        await doubting.close()
        await trusting.close()
