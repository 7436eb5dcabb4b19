"""The proxy does what its words say, to real sockets."""

import socket
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from tests.faults.matrix.proxy import Proxy, ProxyLoop, Toxic


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before a server that repeats what it hears."""
    door = socket.create_server(("127.0.0.1", 0))

    def repeat(one: socket.socket) -> None:
        with one:
            try:
                while data := one.recv(65536):
                    one.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                one, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=repeat, args=(one,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    loop = ProxyLoop()
    proxy = Proxy(loop, door.getsockname()[1], Random(1))
    yield proxy
    proxy.close()
    loop.stop()
    door.shutdown(socket.SHUT_RDWR)
    door.close()


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def echo(line: socket.socket, data: bytes) -> bytes:
    line.sendall(data)
    heard = b""
    while len(heard) < len(data) and (piece := line.recv(65536)):
        heard += piece
    return heard


def test_what_nothing_happens_to_passes(proxy: Proxy) -> None:
    with dial(proxy) as line:
        assert echo(line, b"x" * 300_000) == b"x" * 300_000
        line.shutdown(socket.SHUT_WR)
        assert line.recv(1) == b""
    assert not proxy.struck


def test_latency_delays_and_goes_away(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="latency", seconds=0.3))
    with dial(proxy) as line:
        begun = time.monotonic()
        assert echo(line, b"hi") == b"hi"
        assert time.monotonic() - begun >= 0.29
    assert proxy.struck["latency"] == 1
    proxy.clear()
    with dial(proxy) as line:
        assert echo(line, b"hi") == b"hi"
    assert proxy.struck["latency"] == 1


def test_down_refuses_and_cuts_what_was_open_until_it_is_up_on_the_same_port(proxy: Proxy) -> None:
    with dial(proxy) as line:
        echo(line, b"hi")
        proxy.add(Toxic(kind="down"))
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.clear()
    with dial(proxy) as line:
        assert echo(line, b"hi") == b"hi"


def test_reset_peer_cuts_what_is_open_and_nothing_later(proxy: Proxy) -> None:
    with dial(proxy) as line, dial(proxy) as other:
        echo(line, b"hi")
        echo(other, b"hi")
        proxy.add(Toxic(kind="reset_peer"))
        for one in (line, other):
            with pytest.raises(ConnectionResetError):
                one.recv(1)
    with dial(proxy) as line:
        assert echo(line, b"hi") == b"hi"
    assert proxy.struck["reset_peer"] == 2


def test_timeout_holds_everything_back_until_it_is_healed(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="timeout"))
    with dial(proxy) as line:
        line.sendall(b"hi")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(2)
        proxy.clear()
        line.settimeout(5)
        assert line.recv(2) == b"hi"


def test_timeout_with_seconds_cuts_after_them(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="timeout", seconds=0.1))
    with dial(proxy) as line, pytest.raises(ConnectionResetError):
        echo(line, b"hi")


def test_limit_data_lets_so_many_bytes_through(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="limit_data", amount=5, way="up"))
    with dial(proxy) as line:
        assert echo(line, b"12345") == b"12345"
        with pytest.raises(ConnectionResetError):
            echo(line, b"6")


def test_slicer_and_bandwidth_change_no_byte(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="slicer", amount=3))
    proxy.add(Toxic(kind="bandwidth", amount=100_000, way="up"))
    with dial(proxy) as line:
        assert echo(line, bytes(range(256)) * 4) == bytes(range(256)) * 4
    assert set(proxy.struck) == {"slicer", "bandwidth"}


def test_drop_reply_drops_as_many_as_it_says(proxy: Proxy) -> None:
    proxy.add(Toxic(kind="drop_reply", amount=2))
    for _ in range(2):
        with dial(proxy) as line, pytest.raises(ConnectionResetError):
            echo(line, b"hi")
    with dial(proxy) as line:
        assert echo(line, b"hi") == b"hi"
    assert proxy.struck["drop_reply"] == 2
