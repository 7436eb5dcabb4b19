"""Names whose answers change: what is vetted is the address that is dialled, at each dial, whatever the name meant before."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from connectors import transport
from connectors.auth.refresher import Refresher
from connectors.declared import Egress
from connectors.exchange import Exchange, Fault, NotSent
from connectors.reach import Reach
from connectors.transport import Engine
from tests.security.places import POLICY, client_of
from tests.security.watched import Resolve, Trap, trap, watching
from tests.tiny_vendor import get

pytestmark = pytest.mark.wire

PUBLIC, OTHER = "93.184.216.34", "2606:4700:4700::1111"
"""Never reached from here: the hook under the sockets refuses them after it has counted them."""
HIDDEN = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "10.0.0.1", "169.254.169.254", "0.0.0.0"]
EGRESS = Egress(allow_hosts=("rebind.example.com",), allow_private=False)


@pytest.fixture
async def snare() -> AsyncIterator[Trap]:
    async with trap() as one:
        yield one


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """One that forgets names almost at once, so that every dial asks again."""
    monkeypatch.setattr(transport, "DNS_CACHE_S", 0.001)
    made = Engine()
    await made.open()
    yield made
    await made.close()


def flips(*answers: list[str]) -> Resolve:
    """Answer in turn, over and over."""
    turn = itertools.cycle(answers)
    return lambda _: next(turn)


async def sends(engine: Engine, port: int, times: int) -> list[Exchange]:
    ended = []
    for number in range(times):
        policy = replace(POLICY, fresh=bool(number % 2))
        ended.append(await engine.send(get(f"https://rebind.example.com:{port}/"), policy))
        await asyncio.sleep(0.002)
    return ended


@pytest.mark.parametrize("hidden", HIDDEN)
async def test_a_name_that_was_public_and_then_is_not_is_not_dialled(engine: Engine, snare: Trap, hidden: str) -> None:
    with watching(flips([PUBLIC], [hidden])) as watch:
        ended = await sends(engine, snare.port, 8)
    assert {host for host, _ in watch.dials} == {PUBLIC}
    assert snare.taken == 0
    faults = [one.fault for one in ended if isinstance(one, NotSent)]
    assert len(faults) == 8
    assert faults.count(Fault.BLOCKED) == 4, "the name did not flip, or what it flipped to was tried"


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("first", [True, False])
async def test_of_several_addresses_only_the_public_ones_are_dialled(
    engine: Engine, snare: Trap, hidden: str, *, first: bool
) -> None:
    answer = [hidden, PUBLIC, OTHER] if first else [PUBLIC, OTHER, hidden]
    with watching(lambda _: answer) as watch:
        await sends(engine, snare.port, 4)
        await Reach(lambda: 0.0).look(f"https://rebind.example.com:{snare.port}/", EGRESS)
        url = f"https://rebind.example.com:{snare.port}/token"
        await Refresher(engine, timeout_s=1.0).fresh(client_of(url, EGRESS), None, now_s=0.0)
    assert {host for host, _ in watch.dials} == {PUBLIC, OTHER}
    assert snare.taken == 0


async def test_what_preflight_looked_at_does_not_vouch_for_what_a_call_dials(engine: Engine, snare: Trap) -> None:
    with watching(flips([PUBLIC], ["127.0.0.1"])) as watch:
        url = f"https://rebind.example.com:{snare.port}/"
        for _ in range(4):
            await Reach(lambda: 0.0).look(url, EGRESS)
            await engine.send(get(url), POLICY)
            await asyncio.sleep(0.002)
    assert {host for host, _ in watch.dials} == {PUBLIC}
    assert snare.taken == 0


async def test_a_name_that_is_private_is_dialled_where_that_is_declared(engine: Engine, snare: Trap) -> None:
    """The listener counts: what it has not counted above was not dialled."""
    with watching():
        await engine.send(get(f"http://rebind.example.com:{snare.port}/"), replace(POLICY, allow_private=True))
    assert snare.taken == 1
