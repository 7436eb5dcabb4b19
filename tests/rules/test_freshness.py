"""How long a token may be used, and which state may follow which."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.auth.freshness import (
    BACKOFF_MOST_S,
    MOVES,
    SHUT,
    TokenState,
    backoff_s,
    lifetime,
    window,
)

LUA = Path(__file__).parents[2] / "gateway" / "lanes" / "lua"


@pytest.mark.parametrize(
    ("told", "life_s"),
    [
        (3600, 3600),
        ("3600", 3600),
        ("3600.5", 3600.5),
        (" 60 ", 60),
        (0, None),
        ("0", None),
        (-1, None),
        (None, None),
        ("soon", None),
        (True, None),
        ([3600], None),
        (float("inf"), None),
        (float("nan"), None),
        ("nan", None),
        (1e12, None),
        (10**400, None),
    ],
)
def test_expires_in_is_read_as_vendors_write_it(told: Any, life_s: float | None) -> None:
    assert lifetime(told) == life_s


@pytest.mark.parametrize(
    ("life_s", "left_s", "dice", "soft_s", "hard_s"),
    [
        (3600, 3600, 0, 1000 + 2700, 1000 + 3585),
        (3600, 3600, 1, 1000 + 2520, 1000 + 3585),
        (3600, 3600, -1, 1000 + 2880, 1000 + 3585),
        (86400, 86400, 0, 1000 + 85500, 1000 + 86385),
        (3, 3, 0, 1000 + 2.25, 1000 + 2.85),
        (3, 1, 0, 1000 + 0.25, 1000 + 0.85),
        (3600, -5, 0, 1000 - 905, 1000 - 20),
        (None, None, 0, math.inf, math.inf),
    ],
)
def test_a_token_is_renewed_early_and_not_used_late(
    life_s: float | None, left_s: float | None, dice: float, soft_s: float, hard_s: float
) -> None:
    found = window(1000, life_s, left_s, dice)
    assert (found.soft_s, found.hard_s) == pytest.approx((soft_s, hard_s))


@given(st.floats(0.001, 4e7), st.floats(0, 1), st.floats(-1, 1))
def test_the_soft_end_comes_before_the_hard_one_and_that_before_the_end(
    life_s: float, share: float, dice: float
) -> None:
    found = window(0, life_s, life_s * share, dice)
    assert found.soft_s <= found.hard_s <= life_s * share


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_back_off_grows_to_a_bound_and_never_undercuts_the_vendor(failures: int, dice: float) -> None:
    assert 0 < backoff_s(failures, None, dice) <= BACKOFF_MOST_S
    assert backoff_s(failures, 900, dice) >= 900
    assert backoff_s(failures, None, dice) <= backoff_s(failures + 1, None, dice)


def test_every_state_has_its_row_and_a_way_back() -> None:
    assert set(MOVES) == set(TokenState)
    for state in TokenState:
        assert TokenState.REVOKED in MOVES[state] or state is TokenState.REVOKED
        assert TokenState.ACTIVE in MOVES[state]


def test_the_scripts_know_the_states_and_no_others() -> None:
    text = "\n".join(path.read_text() for path in [LUA / "shared" / "token.lua", *LUA.glob("token_*.lua")])
    named = set(re.findall(r"become\('(\w+)'", text)) | set(re.findall(r"(\w+) = true", text))
    assert named <= set(TokenState)
    assert set(re.findall(r"(\w+) = true", text)) == SHUT
