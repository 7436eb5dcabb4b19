"""The sweep for secrets finds one wherever it lies, and knows where an argument may lie."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.matrix import recorder
from tests.faults.matrix.load import ARGUMENT, CREDENTIAL

PLACES = ("log", "redis/appendonlydir/a.aof", "gateway/data/blobs/b", "gateway/data/journal.db", "tool-events")


def swept(folder: Path, place: str, secret: str) -> list[tuple[str, str]]:
    for one in PLACES[1:4]:
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).write_text(secret if one == place else "nothing")
    stage: Any = SimpleNamespace(
        workers=SimpleNamespace(log=secret if place == "log" else "", folder=folder / "gateway"),
        redis=SimpleNamespace(home=folder / "redis"),
        read=lambda topic: [{"topic": topic, "told": secret if place == "tool-events" else ""}],
        journal=None,
        canaries=(),
    )
    return list(recorder._leaks(stage))


@pytest.mark.parametrize("place", PLACES)
def test_a_credential_is_found_wherever_it_lies(tmp_path: Path, place: str) -> None:
    assert CREDENTIAL in {canary for _, canary in swept(tmp_path, place, f"x {CREDENTIAL} y")}


@pytest.mark.parametrize("place", ["log", "gateway/data/blobs/b", "tool-events"])
def test_an_argument_is_found_where_only_answers_may_repeat_it(tmp_path: Path, place: str) -> None:
    assert ARGUMENT in {canary for _, canary in swept(tmp_path, place, ARGUMENT)}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert swept(tmp_path, "nowhere", CREDENTIAL) == []
