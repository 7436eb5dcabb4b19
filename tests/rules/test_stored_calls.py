"""A call is kept without loss: what an agent may write is read back as it was, and nothing else is taken for a call."""

import json
from typing import Any

import pytest

from gateway.flow.stored_calls import tool_of
from schemas.tool_call import restored, stored
from tests.examples import tool_call


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "\u0000\u001f\u2028\U0001f600",
        0,
        -(2**63),
        2**64,
        10**300,
        0.1,
        1e300,
        5e-324,
        [],
        {},
        {"": [{"deep": [1, None]}], "_": "x" * 10_000},
    ],
    ids=lambda value: repr(value)[:24],
)
def test_arguments_come_back_as_they_were(value: Any) -> None:
    call = tool_call({"value": value})
    again = restored(stored(call).encode())
    assert again == call
    assert type(again.arguments["value"]) is type(value)


@pytest.mark.parametrize(
    "change", [{}, {"connection": "main"}, {"session": "s"}, {"confidence": 0.5}, {"generation": 3}]
)
def test_every_field_comes_back(change: dict[str, Any]) -> None:
    call = tool_call(**change)
    assert restored(stored(call).encode()) == call


def test_no_name_of_a_field_is_kept() -> None:
    assert isinstance(json.loads(stored(tool_call())), list)


def test_a_call_of_a_later_version_with_more_fields_is_read() -> None:
    call = tool_call({"a": 1})
    later = json.dumps([*json.loads(stored(call)), "added later"])
    assert restored(later.encode()) == call


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]", b"null", b'"x"', b"\xff", b'["c1", 3]', b"[" * 100_000])
def test_what_is_no_call_is_told_by_one_kind_of_exception(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as told:
        restored(body)
    assert type(told.value) is ValueError


def test_half_a_call_is_none() -> None:
    whole = stored(tool_call({"a": 1})).encode()
    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=r"."):
            restored(whole[:end])


@pytest.mark.parametrize("connection", [None, "main"])
@pytest.mark.parametrize("tool", ["crm.contacts.create", "crm.echo"])
def test_a_lane_tells_the_tool_of_its_calls(tool: str, connection: str | None) -> None:
    assert tool_of(tool_call(tool=tool, connection=connection).lane) == tool
