"""Proves the oracle itself, over real sockets: it counts what arrived, executes what it says, and lies on demand."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from ruamel.yaml import YAML

from tests.vendor.client import ROOT, VendorControl, VendorProcess, manifest
from tests.vendor.record import ARRIVALS_KEPT, Arrival, Bounded, Record, busiest
from tests.vendor.script import Behaviour, Kind
from tests.vendor.shop import BY_ID, EXACT

pytest_plugins = ["tests.vendor.fixtures"]
pytestmark = pytest.mark.wire


def contact(key: str, email: str = "ada@example.com") -> dict[str, Any]:
    return {"json": {"email": email}, "headers": {"Idempotency-Key": key}}


def dial(vendor: VendorControl) -> socket.socket:
    place = urlsplit(vendor.url)
    return socket.create_connection((place.hostname, place.port), timeout=5)


def wire(path: str, body: bytes = b"", *, claimed: int | None = None) -> bytes:
    length = len(body) if claimed is None else claimed
    return f"POST {path} HTTP/1.1\r\nHost: v\r\nContent-Length: {length}\r\n\r\n".encode() + body


async def test_a_key_gets_one_effect_and_the_same_answer_however_often_it_comes(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    answers = []
    for _ in range(3):
        async with vendor_session.post("/v1/contacts", **contact("k-1")) as response:
            answers.append((response.status, await response.text()))
    counts = vendor.counts()
    assert len(set(answers)) == 1
    assert answers[0][0] == 201
    assert counts.arrivals == 3
    assert counts.by_operation == {"contacts.create": 3}
    assert counts.effects == {"contacts.create": {"k-1": 1}}
    assert counts.effects_by_ref == {"contacts.create": {"ada@example.com": 1}}
    assert [arrival.effect for arrival in vendor.arrivals()] == [True, False, False]


async def test_a_key_that_comes_back_with_another_payload_is_refused(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    async with vendor_session.post("/v1/contacts", **contact("k-1")):
        pass
    async with vendor_session.post("/v1/contacts", **contact("k-1", "eve@example.com")) as response:
        assert response.status == 422
    assert vendor.counts().effects_total == 1


async def test_a_second_key_for_the_same_ref_is_seen_as_a_repetition(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    for key in ("k-1", "k-2"):
        async with vendor_session.post("/v1/contacts", **contact(key)):
            pass
    counts = vendor.counts()
    assert counts.repeated_effects == []
    assert counts.repeated_refs == ["ada@example.com"]


async def test_every_message_that_runs_is_an_effect_of_its_ref(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    for ref in ("a", "b", "a"):
        async with vendor_session.post("/v1/messages", json={"ref": ref, "text": "hi"}) as response:
            assert response.status == 201
    async with vendor_session.get("/v1/messages", params={"ref": "a"}) as response:
        assert len((await response.json())["items"]) == 2
    counts = vendor.counts()
    assert counts.effects == {"messages.send": {"a": 2, "b": 1}}
    assert counts.repeated_effects == ["a"]


async def test_an_order_can_be_read_back_by_its_ref(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    async with vendor_session.post("/v1/orders", json={"ref": "o-7", "item": "tea"}) as response:
        order = await response.json()
    async with vendor_session.get("/v1/orders", params={"ref": "o-7"}) as response:
        assert (await response.json())["items"] == [order]
    async with vendor_session.get("/v1/orders", params={"ref": "o-8"}) as response:
        assert (await response.json())["items"] == []


async def test_the_same_update_twice_changes_the_world_once(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        async with vendor_session.put("/v1/contacts/7", json={"email": "new@example.com"}) as response:
            assert response.status == 200
    async with vendor_session.get("/v1/contacts/7") as response:
        assert await response.json() == {"id": "7", "email": "new@example.com"}
    assert vendor.counts().effects_total == 1


async def test_an_arrival_is_recorded_with_its_identity_and_both_clocks(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    before, wall_before = time.monotonic_ns() // 1000, time.time_ns() // 1000
    headers = {"traceparent": trace, "Authorization": "Bearer s3cret", "Idempotency-Key": "k"}
    async with vendor_session.post("/v1/messages?x=1", json={"ref": "r"}, headers=headers):
        pass
    (arrival,) = vendor.arrivals("messages.send")
    assert before <= arrival.mono_us <= time.monotonic_ns() // 1000
    assert wall_before <= arrival.wall_us <= time.time_ns() // 1000
    assert (arrival.method, arrival.path, arrival.status) == ("POST", "/v1/messages", 201)
    assert (arrival.key, arrival.ref, arrival.traceparent) == ("k", "r", trace)
    assert arrival.body_sha256 is not None
    assert "s3cret" not in repr(arrival)


async def test_echo_shows_what_arrived_and_hides_the_credential(vendor_session: aiohttp.ClientSession) -> None:
    headers = {"Authorization": "Bearer s3cret", "X-Note": "hello"}
    async with vendor_session.get("/v1/echo", params={"word": "a b"}, headers=headers) as response:
        text = await response.text()
    echoed = json.loads(text)
    assert (echoed["method"], echoed["path"], echoed["query"]) == ("GET", "/v1/echo", {"word": "a b"})
    assert echoed["headers"]["x-note"] == "hello"
    assert "s3cret" not in text


@pytest.mark.parametrize("size", [0, 5, 11, 70_000, 3_000_000])
async def test_big_is_exactly_as_big_as_asked(vendor_session: aiohttp.ClientSession, size: int) -> None:
    async with vendor_session.get("/v1/big", params={"bytes": size}) as response:
        body = await response.read()
    assert len(body) == (size or len(b'{"data":""}'))
    if size > 10:
        assert len(json.loads(body)["data"]) == size - 11


async def test_what_is_unknown_malformed_or_cut_off_is_still_an_arrival(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    async with vendor_session.get("/v1/nothing") as response:
        assert response.status == 404
    with closing(dial(vendor)) as line:
        line.sendall(b"this is not http\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.0 400")
    with closing(dial(vendor)) as line:
        line.sendall(wire("/v1/messages", b'{"ref":', claimed=500))
    counts = vendor.until(arrivals=3)
    assert counts.by_operation == {"unknown": 1, "malformed": 1, "messages.send": 1}
    assert counts.effects_total == 0
    assert counts.unanswered == 1


def test_a_caller_that_leaves_at_once_has_still_arrived_and_executed(vendor: VendorProcess) -> None:
    for n in range(50):
        with closing(dial(vendor)) as line:
            line.sendall(wire("/v1/messages", b'{"ref":"r-%d"}' % n))
    counts = vendor.until(effects_total=50)
    assert counts.arrivals == 50


def test_pipelined_requests_are_booked_each_and_in_order(vendor: VendorProcess) -> None:
    with closing(dial(vendor)) as line:
        line.sendall(wire("/v1/messages", b'{"ref":"a"}') + wire("/v1/messages", b'{"ref":"b"}'))
        vendor.until(effects_total=2)
    assert [arrival.ref for arrival in vendor.arrivals()] == ["a", "b"]


async def test_the_window_counts_the_densest_stretch(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    for pause in (0.3, 0, 0):
        async with vendor_session.get("/v1/echo"):
            pass
        await asyncio.sleep(pause)
    assert vendor.window(0.2) == 2
    assert vendor.window(60, "echo") == 3
    assert vendor.window(60, "contacts.get") == 0


async def test_a_reset_forgets_everything_and_calls_in_flight_stay_in_the_old_books(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession
) -> None:
    vendor.script("messages.send", Behaviour(do=Kind.HOLD))
    flying = asyncio.create_task(vendor_session.post("/v1/messages", json={"ref": "old"}))
    await vendor.aio.until(held=1)
    await vendor.aio.reset()
    async with await flying as response:
        assert response.status == 201
    counts = vendor.counts()
    assert (counts.arrivals, counts.effects_total, counts.statuses) == (0, 0, {})


@pytest.mark.parametrize(
    ("auth", "good"),
    [
        ({"type_": "bearer", "secret": "t0ken"}, {"headers": {"Authorization": "Bearer t0ken"}}),
        (
            {"type_": "basic", "secret": "ann:pw"},
            {"headers": {"Authorization": aiohttp.encode_basic_auth("ann", "pw")}},
        ),
        ({"type_": "api_key", "secret": "k3y", "name": "X-Key"}, {"headers": {"X-Key": "k3y"}}),
        ({"type_": "api_key", "secret": "k3y", "name": "key", "where": "query"}, {"params": {"key": "k3y"}}),
    ],
)
async def test_a_demanded_credential_is_checked_and_only_its_hash_is_kept(
    vendor: VendorProcess, vendor_session: aiohttp.ClientSession, auth: dict[str, str], good: dict[str, Any]
) -> None:
    vendor.auth(**auth)
    for presented, status in ((good, 201), ({}, 401)):
        async with vendor_session.post("/v1/messages", json={"ref": "r"}, **presented) as response:
            assert response.status == status
            assert ("WWW-Authenticate" in response.headers) == (status == 401)
    counts, arrivals = vendor.counts(), vendor.arrivals()
    assert counts.effects_total == 1
    assert counts.statuses == {"201": 1, "401": 1}
    assert arrivals[0].credential_sha256 is not None
    assert arrivals[1].credential_sha256 is None
    assert auth["secret"] not in repr(arrivals)


def test_two_arrivals_exactly_a_window_apart_do_not_share_it() -> None:
    assert busiest([0, 1_000_000], 1_000_000) == 1
    assert busiest([0, 999_999, 1_000_000], 1_000_000) == 2
    assert busiest([], 1_000_000) == 0


def test_the_list_of_arrivals_is_bounded_and_the_counters_are_not() -> None:
    record = Record()
    for n in range(ARRIVALS_KEPT + 10):
        record.arrive(Arrival(mono_us=n, wall_us=n, method="GET", path="/", operation="echo"))
    assert len(record.listed()) == ARRIVALS_KEPT
    assert record.dropped == 10
    assert record.counts().by_operation == {"echo": ARRIVALS_KEPT + 10}


def test_a_bounded_mapping_forgets_its_oldest_and_says_so() -> None:
    kept: Bounded[int] = Bounded(2)
    for name in "abc":
        kept[name] = 1
    assert list(kept) == ["b", "c"]
    assert kept.forgotten == 1


def test_the_manifest_names_every_operation_the_vendor_has() -> None:
    connector = YAML(typ="safe").load(manifest("http://127.0.0.1:4711", auth="{type: bearer}"))
    assert connector["base_url"] == "http://127.0.0.1:4711"
    assert connector["auth"] == {"type": "bearer"}
    assert set(connector["operations"]) == {*EXACT.values(), *BY_ID.values()} - {"token", "consent", "chat.complete"}
    for name, operation in connector["operations"].items():
        request = operation["request"]
        assert EXACT.get((request["method"], request["path"]), BY_ID.get(request["method"])) == name
        assert operation["input"]["additionalProperties"] is False


def test_a_vendor_that_was_killed_refuses_and_comes_back_at_the_same_address() -> None:
    with VendorProcess() as vendor:
        url = vendor.url
        vendor.kill()
        with pytest.raises(ConnectionRefusedError):
            dial(vendor)
        vendor.start()
        assert vendor.url == url
        assert vendor.counts().arrivals == 0


def test_a_vendor_ends_at_sigterm_even_with_calls_in_flight() -> None:
    with VendorProcess() as vendor:
        vendor.script("*", Behaviour(do=Kind.HANG))
        with closing(dial(vendor)) as line:
            line.sendall(wire("/v1/messages", b'{"ref":"a"}'))
            vendor.until(effects_total=1)
            process = vendor._process
            assert process is not None
            process.send_signal(signal.SIGTERM)
            assert process.wait(3) == 0


def test_a_vendor_does_not_outlive_its_parent() -> None:
    program = (
        "import os, signal\nfrom tests.vendor.client import VendorProcess\n"
        "print(VendorProcess().start().url, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    url = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=False).stdout
    orphan = VendorControl(url.decode().strip())
    assert _falls_silent(orphan, within_s=5)


def _falls_silent(vendor: VendorControl, *, within_s: float) -> bool:
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        try:
            vendor.counts(names=False)
        except ConnectionError:
            return True
        time.sleep(0.02)
    return False
