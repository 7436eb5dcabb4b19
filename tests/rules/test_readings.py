"""What a scrape is told of limits and credentials."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.catalog import load
from gateway.flow import readings
from gateway.ports import Budget, LaneState

MANIFEST = """
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: https://crm.test
auth: {type: bearer}
limits: {core: {rate: 10/s, per: connection}, inflight: {concurrency: 4}}
defaults: {limits: {core: 1, inflight: 1}}
operations:
  one: {request: {method: GET, path: /one}, class: safe}
  two: {request: {method: GET, path: /two}, class: safe}
---
{apiVersion: sluice/v1, kind: Connection, metadata: {name: a, connector: crm}, secrets: {token: "${env:T}"}}
---
{apiVersion: sluice/v1, kind: Connection, metadata: {name: b, connector: crm}, secrets: {token: "${env:T}"}}
"""


def budget(used: int, most: int = 10, learned: int | None = None, window_us: int = 1_000_000) -> Budget:
    return Budget(key="k", name="core", kind="strict", most=most, window_us=window_us, used=used, learned=learned)


@pytest.mark.parametrize(
    ("one", "share"),
    [
        (budget(0), 1.0),
        (budget(4), 0.6),
        (budget(10), 0.0),
        (budget(12), 0.0),
        (budget(4, learned=5), 0.2),
        (budget(0, 0), 0.0),
    ],
)
def test_what_is_free_of_a_limit(one: Budget, share: float) -> None:
    assert readings.free(one) == pytest.approx(share)


async def test_each_limit_is_looked_at_once_and_of_several_connections_the_fullest_counts(tmp_path: Any) -> None:
    (tmp_path / "crm.yaml").write_text(MANIFEST)
    catalog = load([tmp_path], {"T": "t"}).catalog
    looked: list[str] = []

    class Lanes:
        async def survey(self, lanes: Sequence[str]) -> tuple[int, list[LaneState]]:
            looked.extend(lanes)
            budgets = {"a": [budget(2)], "b": [budget(9), budget(3, 4, window_us=0)]}
            return 0, [
                cast("LaneState", SimpleNamespace(lane=lane, budgets=budgets[lane.split("|")[1]])) for lane in lanes
            ]

    assert await readings.budgets(Lanes(), catalog) == {("crm", "core"): pytest.approx(0.1)}
    assert sorted(lane.split("|")[1] for lane in looked) == ["a", "b"]


async def test_a_token_is_told_by_when_it_ends_and_what_has_none_is_left_out() -> None:
    class Connections:
        async def ls(self) -> list[Any]:
            return [
                SimpleNamespace(connection="crm/main", expires_s=60.5),
                SimpleNamespace(connection="crm/new", expires_s=None),
            ]

    assert await readings.expiries(Connections(), lambda: 1000.0) == {("crm", "main"): 1060.0}
