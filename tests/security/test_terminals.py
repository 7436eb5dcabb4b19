"""What somebody else wrote and a person reads: tables, JSON, messages, log lines. None of it steers a terminal or forges a line."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway import logs
from gateway.entrypoints.cli.output import Format, say, show_one, show_rows
from gateway.policy.visible import visible
from tests.security.payloads import STEERS, TEMPLATES, TERMINALS
from tests.served import Served, served
from tests.shell import Shell
from tests.vendor.client import VendorProcess, manifest
from tests.vendor.script import Behaviour, Kind

SPOKEN = (*TERMINALS, *TEMPLATES)
NASTY = "".join(SPOKEN[:17])


def steering(text: str) -> set[str]:
    return set(text) & STEERS


@pytest.mark.parametrize("payload", SPOKEN)
@pytest.mark.parametrize("wanted", Format)
def test_a_value_in_a_table_or_in_json_is_text(
    payload: str, wanted: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"CALL": payload, "TOOL": {payload: [payload]}}]
    show_rows(rows, wanted, columns=("CALL", "TOOL"))
    show_one({payload: payload, "n": [payload]}, wanted)
    say(f"a message: {payload}")
    told = capsys.readouterr()
    assert not steering(told.out + told.err)
    if wanted is Format.JSONL:
        first, second = told.out.splitlines()
        assert [json.loads(first)] == rows
        assert json.loads(second) == {payload: payload, "n": [payload]}


def test_markup_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"CALL": "[bold red]x[/bold red]"}], Format.TABLE, columns=("CALL",))
    assert "[bold red]x[/bold red]" in capsys.readouterr().out


def test_half_a_character_is_printed_and_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"name": "a\ud800b"}, Format.JSON)
    assert json.loads(capsys.readouterr().out) == {"name": "a\ud800b"}


@given(text=st.text())
def test_only_what_steers_is_written_out(text: str) -> None:
    shown = visible(text)
    assert not steering(shown)
    assert shown.encode() or not text
    if not steering(text) and not any("\ud800" <= one <= "\udfff" for one in text):
        assert shown == text


@pytest.fixture
def kept_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("pretty", [True, False])
@pytest.mark.parametrize("payload", SPOKEN)
def test_a_log_line_is_one_line_and_no_command(
    payload: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kept_handlers: None,
    *,
    pretty: bool,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure("info", pretty=pretty)
    structlog.get_logger("ours").warning("vendor.answered", message=payload, more={"inner": [payload]})
    logging.getLogger("library").warning("said %s", payload)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert not steering("".join(lines))
    if not pretty:
        assert json.loads(lines[0])["message"] == payload


@pytest.mark.parametrize("pretty", [True, False])
def test_an_exception_in_the_log_shows_no_variable_and_no_secret_it_quotes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kept_handlers: None, *, pretty: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure("info", pretty=pretty)

    def breaks(revealed: str) -> None:
        raise ValueError(f"Bearer {revealed} \x1b[2J")

    try:
        breaks("canary" + "-in-a-variable")  # in two halves, since a traceback quotes this line
    except ValueError:
        structlog.get_logger("ours").exception("api.broken")
    told = capsys.readouterr().err
    assert "ValueError" in told
    assert "canary-in-a-variable" not in told
    assert not steering(told)


@pytest.fixture
async def gateway(redis: "Redis", redis_url: str, tmp_path: Path, vendor: VendorProcess) -> AsyncIterator[Served]:
    async with served(redis_url, tmp_path / "data", manifest(vendor.url), journals=True) as running:
        yield running


COMMANDS = (
    ("calls", "ls"),
    ("calls", "show", "{call}"),
    ("dlq", "ls"),
    ("dlq", "show", "{letter}", "--open"),
    ("call", "\x1b[31mno.such.tool"),
)


@pytest.mark.wire
async def test_what_a_vendor_and_an_agent_wrote_is_shown_by_no_command_as_it_is(
    gateway: Served, tmp_path: Path, redis_url: str, vendor: VendorProcess
) -> None:
    """The words travel the whole way: call, vendor's refusal, letter, journal, API, command line."""
    refusal = {"error": {"code": NASTY, "message": NASTY, "\x1b[2J": NASTY}}
    vendor.script("*", Behaviour(do=Kind.STATUS, status=422, body=refusal, forever=True))
    arguments = {"ref": NASTY, "text": NASTY}
    more = {"session": NASTY[:60], "idempotency_key": NASTY[:100]}
    answer = await gateway.publish("crm.messages.send", arguments, **more)
    if answer.status_code == 400:  # such a name is not taken
        answer = await gateway.publish("crm.messages.send", arguments)
    ended: dict[str, Any] = answer.json()
    assert ended["state"] == "failed", ended
    names = {"call": ended["call"], "letter": ended["error"]["dead_letter"]}
    given = {"URL": gateway.url, "REDIS_URL": redis_url, "DATA": str(tmp_path / "data")}
    sluice = Shell(tmp_path, {f"SLUICE_{name}": value for name, value in given.items()})
    await _journalled(gateway)
    words = [[part.format(**names) for part in command] for command in COMMANDS]
    asked = [(one, "table") for one in words] + [(one, "json") for one in words[:1]]
    for ran in await asyncio.gather(*(sluice(*one, "-o", wanted) for one, wanted in asked)):
        assert not steering(ran.out + ran.err), (ran.out, ran.err)
        assert "Traceback" not in ran.err
    shown = await sluice("dlq", "show", names["letter"], "--open", "-o", "json")
    assert NASTY in set(_texts(shown.data)), "the words never came so far"
    assert not steering(shown.out)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from (text for pair in value.items() for part in pair for text in _texts(part))
        case list():
            yield from (text for one in value for text in _texts(one))
        case _:
            pass


async def _journalled(gateway: Served) -> None:
    async with asyncio.timeout(20):
        while not (await gateway.http.get("/v1/calls?state=failed")).json().get("calls"):  # noqa: ASYNC110 - it is written elsewhere
            await asyncio.sleep(0.05)
