"""No address leads the gateway to where it was not told to go: 150 of them through every place where one can come in.

What was dialled is counted twice: by a hook under every socket of the process, and by a listener on all addresses of the machine.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from connectors import reach as reaching
from connectors import transport
from connectors.pipeline import Pipeline
from connectors.transport import Engine
from dlq.redaction import scrub_bytes
from gateway.guards import open_guards
from tests.guarded import common
from tests.security.places import DIALLED, ONLY_SAID, Ground, pointing_vendor, reach, wire
from tests.security.watched import Trap, corpus, trap, watching

pytestmark = pytest.mark.wire

LEAST = 80


@pytest.fixture
async def snare() -> AsyncIterator[Trap]:
    async with trap() as one:
        yield one


@pytest.fixture
async def ground(redis: "Redis", tmp_path: Path) -> AsyncIterator[Ground]:
    engine, hint = Engine(), list[str]()
    await engine.open()
    async with open_guards(common(redis, engine, tmp_path)) as guarding, pointing_vendor(hint) as upstream:
        pipeline = Pipeline(
            engine,
            guarding.guards,
            clock=lambda: 1_795_000_000.0,
            new_span=lambda: "b" * 16,
            scrub=scrub_bytes,
            cap_wire_bytes=65_536,
            cap_decoded_bytes=65_536,
        )
        yield Ground(engine=engine, pipeline=pipeline, folder=tmp_path, vendor=upstream, hint=hint)
    await engine.close()


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(set(corpus(1))) >= LEAST


@pytest.mark.parametrize("place", DIALLED)
async def test_an_address_that_would_be_dialled_is_not(place: str, ground: Ground, snare: Trap) -> None:
    with watching() as watch:
        for url in corpus(snare.port):
            before = len(watch.dials)
            await DIALLED[place](ground, url)
            assert watch.dials[before:] == [], url
    assert snare.taken == 0
    assert ground.vendor.connections == 0


@pytest.mark.parametrize("place", ONLY_SAID)
async def test_an_address_that_is_only_said_is_not_dialled(place: str, ground: Ground, snare: Trap) -> None:
    with watching() as watch:
        for url in corpus(snare.port):
            before = len(watch.dials)
            await ONLY_SAID[place](ground, url)
            others = [dial for dial in watch.dials[before:] if dial != ("127.0.0.1", ground.vendor.port)]
            assert others == [], url
    assert snare.taken == 0
    assert watch.names == []
    if place in {"answer", "arguments"}:
        assert len(ground.vendor.arrivals) >= 2 * len(corpus(1)), "they did not come so far as the vendor"


async def test_without_the_guard_the_same_addresses_are_reached(
    ground: Ground, snare: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "vet", lambda *_, **__: None)
    monkeypatch.setattr(reaching, "vet", lambda *_, **__: None)
    reached = set()
    with watching() as watch:
        for url in corpus(snare.port):
            before = len(watch.dials)
            await wire(ground, url)
            await reach(ground, url)
            if watch.dials[before:]:
                reached.add(url)
    assert len(reached) >= LEAST, "the corpus has lost its teeth"
    assert snare.taken >= LEAST // 2
