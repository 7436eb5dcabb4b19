"""One exchange against real sockets: every trap of aiohttp that would make a lost answer look like a safe failure.

The servers are a few lines of asyncio each, so that a test shows what the vendor did.
"""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from connectors.exchange import Ambiguous, Cut, Fault
from connectors.transport import Engine
from tests.tiny_vendor import OK, POLICY, Vendor, get, hangs, is_answered, listening, request, resets, sends, vendor

pytestmark = pytest.mark.wire


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    await made.open()
    yield made
    await made.close()


async def test_an_answer_comes_back_whole(engine: Engine) -> None:
    head = b"HTTP/1.1 201 Created\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: s=1\r\nContent-Length: 4\r\n\r\nnull"
    async with vendor(sends(head)) as upstream:
        sent = request(f"http://127.0.0.1:{upstream.port}/a%2Fb?q=%2E", x_key="k")
        answer = is_answered(await engine.send(sent, POLICY))
    assert (answer.status, answer.body, answer.truncated, answer.http_version) == (201, b"null", None, "1.1")
    assert answer.headers == {"x-a": "1, 2", "content-length": "4"}
    arrived = upstream.arrivals[0]
    assert arrived.startswith(b"POST /a%2Fb?q=%2E HTTP/1.1\r\n")
    assert arrived.endswith(b'\r\n\r\n{"a":1}')
    assert b"accept-encoding: gzip, deflate\r\n" in arrived.lower()
    assert b"x-key: k\r\n" in arrived


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_post_that_was_taken_and_closed_without_an_answer_is_ambiguous(engine: Engine, fresh: bool) -> None:  # noqa: FBT001 - both
    async with vendor(sends(close=True)) as upstream:
        exchange = await engine.send(request(upstream.url), replace(POLICY, fresh=fresh))
    assert isinstance(exchange, Ambiguous)
    assert exchange.fault is Fault.RECEIVE_RESET
    assert len(upstream.arrivals) == 1


async def test_a_reset_after_the_request_is_ambiguous(engine: Engine) -> None:
    async with vendor(resets) as upstream:
        exchange = await engine.send(request(upstream.url), POLICY)
    assert isinstance(exchange, Ambiguous)
    assert exchange.fault in {Fault.SEND_RESET, Fault.RECEIVE_RESET}


async def test_no_answer_in_time_is_ambiguous_and_the_socket_is_closed(engine: Engine) -> None:
    async with vendor(hangs) as upstream:
        exchange = await engine.send(request(upstream.url), replace(POLICY, timeout_s=0.2))
        assert isinstance(exchange, Ambiguous)
        assert exchange.fault is Fault.RECEIVE_TIMEOUT
        assert 0.15 < exchange.duration_s < 2


async def test_a_cancelled_send_closes_its_socket_at_once(engine: Engine) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        while await reader.read(1000):
            pass
        gone.set()

    async with listening(serve) as port:
        task = asyncio.create_task(engine.send(request(f"http://127.0.0.1:{port}/"), POLICY))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 1)


async def test_a_redirect_is_an_answer_and_is_not_followed(engine: Engine) -> None:
    async with vendor(sends(OK)) as target:
        head = f"HTTP/1.1 302 Found\r\nLocation: {target.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with vendor(sends(head)) as upstream:
            answer = is_answered(await engine.send(request(upstream.url), POLICY))
    assert answer.status == 302
    assert not target.arrivals


async def test_a_drip_ends_at_the_total_deadline(engine: Engine) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    async with vendor(sends(head, *[b"x"] * 100, pause=0.05)) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), replace(POLICY, timeout_s=0.4)))
    assert answer.truncated is Cut.DEADLINE
    assert 0 < len(answer.body) < 20
    assert answer.duration_s < 2


async def test_a_dripped_head_ends_at_the_total_deadline_too(engine: Engine) -> None:
    async with vendor(sends(*[bytes([byte]) for byte in OK], pause=0.05)) as upstream:
        exchange = await engine.send(get(upstream.url), replace(POLICY, timeout_s=0.3))
    assert isinstance(exchange, Ambiguous)
    assert exchange.fault is Fault.RECEIVE_TIMEOUT


async def test_endless_informational_answers_end_at_the_deadline(engine: Engine) -> None:
    async with vendor(sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000, pause=0.01)) as upstream:
        exchange = await engine.send(get(upstream.url), replace(POLICY, timeout_s=0.3))
    assert isinstance(exchange, Ambiguous)


async def test_cookies_are_not_kept(engine: Engine) -> None:
    head = OK.replace(b"\r\n", b"\r\nSet-Cookie: session=tenant-1; Path=/\r\n", 1)
    async with vendor(sends(head)) as upstream:
        await engine.send(get(upstream.url), POLICY)
        await engine.send(get(upstream.url), POLICY)
    assert len(upstream.arrivals) == 2
    assert b"cookie" not in b"".join(upstream.arrivals).lower()


def _packed(encoding: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello")),
        ("GZIP", gzip.compress(b"he") + gzip.compress(b"llo")),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")[2:-4]),
        ("identity", b"hello"),
    ],
)
async def test_packed_answers_are_unpacked(engine: Engine, encoding: str, packed: bytes) -> None:
    async with vendor(sends(_packed(encoding, packed))) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
    assert (answer.body, answer.truncated) == (b"hello", None)


@pytest.mark.parametrize(
    ("encoding", "packed", "cut"),
    [
        ("br", b"\x0b\x02\x80hello\x03", Cut.ENCODING),
        ("gzip, gzip", gzip.compress(gzip.compress(b"hello")), Cut.ENCODING),
        ("gzip", b"not gzip at all", Cut.ENCODING),
        ("gzip", gzip.compress(b"hello" * 100)[:-12], Cut.LOST),
    ],
)
async def test_what_cannot_be_unpacked_is_said(engine: Engine, encoding: str, packed: bytes, cut: Cut) -> None:
    async with vendor(sends(_packed(encoding, packed))) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
    assert answer.truncated is cut


async def test_a_gzip_bomb_stops_at_the_cap(engine: Engine) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    async with vendor(sends(_packed("gzip", bomb))) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
        assert (answer.truncated, len(answer.body)) == (Cut.OVERSIZE, POLICY.cap_decoded_bytes)
        small = gzip.compress(bytes(1_900_000))
        upstream.answer = sends(_packed("gzip", small))
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
    assert answer.truncated is Cut.OVERSIZE  # within the cap, but grown a thousandfold
    assert len(answer.body) == 1 << 20


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_above_the_cap_is_not_read_to_its_end(engine: Engine, declared: bool) -> None:  # noqa: FBT001 - both
    framing = b"Content-Length: 50000000" if declared else b"Connection: close"
    head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    async with vendor(sends(head, *[b"x" * 65536] * 64)) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
        assert answer.truncated is Cut.WIRE
        assert len(answer.body) <= POLICY.cap_wire_bytes
        assert is_answered(await engine.send(get(upstream.url), POLICY)).truncated is Cut.WIRE
    assert upstream.connections == 2


async def test_a_truncated_body_is_an_answer_that_says_so(engine: Engine) -> None:
    async with vendor(sends(OK[:-1], close=True)) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), POLICY))
    assert (answer.status, answer.truncated, answer.body) == (200, Cut.LOST, b"{")


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 9999 Odd\r\n\r\n",
    ],
)
async def test_a_head_that_is_not_http_or_too_large_is_garbage(engine: Engine, head: bytes) -> None:
    async with vendor(sends(head, close=True)) as upstream:
        exchange = await engine.send(get(upstream.url), POLICY)
    assert isinstance(exchange, Ambiguous), exchange
    assert exchange.fault is Fault.GARBAGE


async def test_connections_are_reused_unless_fresh_is_asked_for(engine: Engine) -> None:
    async with vendor(sends(OK)) as upstream:
        for _ in range(3):
            await engine.send(get(upstream.url), POLICY)
        assert upstream.connections == 1
        for _ in range(3):
            await engine.send(request(upstream.url), replace(POLICY, fresh=True))
        assert upstream.connections == 4


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
async def test_a_kept_alive_connection_that_dies_is_ambiguous_and_nothing_is_sent_twice(
    engine: Engine, method: str
) -> None:
    async def once(upstream: Vendor, _: bytes, writer: asyncio.StreamWriter) -> None:
        if len(upstream.arrivals) == 1:
            writer.write(OK)
        else:
            writer.close()

    async with vendor(once) as upstream:
        is_answered(await engine.send(get(upstream.url), POLICY))
        exchange = await engine.send(request(upstream.url, method), POLICY)
        assert isinstance(exchange, Ambiguous)
        await asyncio.sleep(0.05)
        assert (len(upstream.arrivals), upstream.connections) == (2, 1)


async def test_an_answer_nobody_asked_for_is_not_given_to_the_next_request(engine: Engine) -> None:
    async def speaks_twice(upstream: Vendor, _: bytes, writer: asyncio.StreamWriter) -> None:
        n = len(upstream.arrivals)
        writer.write(OK.replace(b"{}", b"%02d" % n))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(OK.replace(b"{}", b"99"))

    async with vendor(speaks_twice) as upstream:
        assert is_answered(await engine.send(get(upstream.url), POLICY)).body == b"01"
        await asyncio.sleep(0.1)
        assert is_answered(await engine.send(get(upstream.url), POLICY)).body == b"02"
        assert upstream.connections == 2


async def test_many_exchanges_at_once_do_not_mix(engine: Engine) -> None:
    async def echo(_: Vendor, head: bytes, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ")[1]
        await asyncio.sleep(0.001)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    async with vendor(echo) as upstream:
        began = time.monotonic()
        urls = [f"http://127.0.0.1:{upstream.port}/{n}" for n in range(300)]
        answers = await asyncio.gather(*(engine.send(get(url), POLICY) for url in urls))
    assert [is_answered(answer).body for answer in answers] == [b"/%d" % n for n in range(300)]
    assert time.monotonic() - began < 30


async def test_a_hundred_thousand_members_are_not_unpacked_one_by_one(engine: Engine) -> None:
    body = gzip.compress(b"") * 100_000
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with vendor(sends(head + body)) as upstream:
        answer = is_answered(await engine.send(get(upstream.url), replace(POLICY, cap_wire_bytes=4 << 20)))
    assert answer.truncated is Cut.ENCODING


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


async def test_a_few_answers_before_the_answer_are_passed_over(engine: Engine) -> None:
    async with vendor(sends(EARLY * 20 + OK)) as upstream:
        for _ in range(3):  # counted for each request of a connection
            assert is_answered(await engine.send(get(upstream.url), POLICY)).status == 200
        assert upstream.connections == 1


async def test_answers_before_the_answer_without_end_are_garbage(engine: Engine) -> None:
    async def floods(_: Vendor, __: bytes, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(EARLY * 1000)
            await writer.drain()

    async with vendor(floods) as upstream:
        exchange = await engine.send(request(upstream.url), POLICY)
    assert isinstance(exchange, Ambiguous)
    assert exchange.fault is Fault.GARBAGE
