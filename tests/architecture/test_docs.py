"""Documents cannot drift: what they say about the code is held against the code. `documents` beside this file mends the tables."""

import ast
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connectors import catalog as manifests
from gateway.entrypoints.api import problems
from gateway.entrypoints.cli import client
from gateway.flow import reports, settlements
from gateway.policy.admission import Incoming, Refuse
from gateway.policy.disposition import End, RetryAt
from gateway.ports import Claim, Run, Way
from gateway.settings import Settings
from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.lifecycle import CallState, HoldReason
from schemas.outcome import Outcome
from tests.architecture import documents
from tests.architecture.documents import ROOT
from tests.examples import tool_call

DOCUMENTS = documents.documents()
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
CODE = [path for room in ("schemas", "connectors", "dlq", "gateway") for path in sorted((ROOT / room).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", document, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading!r}"
    return found[1]


def rows(document: str) -> list[list[str]]:
    """Return the rows of the tables, without their heads."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set("".join(row)) == {"-"}}
    return [row for index, row in enumerate(cells) if index not in heads and index - 1 not in heads]


def first_column(document: str) -> set[str]:
    return {word for row in rows(document) for word in re.findall(r"`([^`]+)`", row[0])}


# What is from the code


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_what_is_from_the_code_is_as_the_code_has_it(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    assert written == documents.with_blocks(written), "python -m tests.architecture.documents writes it anew"
    marks = written.count("<!-- from code: "), written.count("<!-- end -->"), len(documents.MARKED.findall(written))
    assert len(set(marks)) == 1, marks


def test_every_block_stands_somewhere() -> None:
    used = {found[0] for path in DOCUMENTS for found in documents.MARKED.findall(path.read_text(encoding="utf-8"))}
    assert used == set(documents.BLOCKS)


def test_the_glossary_explains_every_state_effect_class_and_hold() -> None:
    explained = set(re.findall(r"^- \*\*`([a-z_]+)`\*\*: ", text("docs/glossary.md"), re.MULTILINE))
    assert explained == {*CallState, *Effect, *OperationClass, *HoldReason}


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {f"SLUICE_{setting.upper()}" for setting in Settings.model_fields} | {client.URL, client.KEY}
    for path in DOCUMENTS:
        named = set(re.findall(r"\bSLUICE_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
        assert named - known == set(), name(path)


def test_bad_input_is_answered_as_the_api_answers_it() -> None:
    table = [row for row in rows(text("docs/bad-input.md")) if len(row) == 5]
    assert len(table) >= 15
    for case, where, failure_class, on_bus, over_http in table:
        failure = Failure(failure_class.strip("`"))
        assert (ROOT / where.strip("`")).is_file(), where
        undecodable = failure.startswith(("decode.", "poison.")) or failure is Failure.INGEST_OVERSIZE
        expected = "undecodable" if undecodable else "rejected"
        if failure is Failure.INGEST_DUPLICATE_CONFLICT:
            expected = "conflict"
        assert on_bus in {expected, "-"}, case
        assert over_http in {str(problems.STATUS[failure]) if failure in problems.STATUS else "-", "-"}, case


# Lifecycle events, alerts, log lines


def claim() -> Claim:
    run = Run(
        state=CallState.PROCESSING,
        lane="crm|-|contacts.create",
        scope="",
        fence=1,
        seq=1,
        attempts=0,
        tries=0,
        crashes=0,
        marked=0,
        first_us=0,
        effect=Effect.NOT_EXECUTED,
        tag=0,
        since=0,
        timeout_us=0,
        deadline_us=0,
        history="[]",
    )
    return Claim(id=tool_call().id, fence=1, lease_us=0, claimed_us=0, run=run, body=b"")


def told() -> Iterator[tuple[str, set[str]]]:
    """Yield the type and the fields of each lifecycle event, as the code renders it."""
    call, outcome = tool_call(), Outcome(effect=Effect.UNKNOWN, failure=Failure.SEND_RESET)
    tried = settlements.Tried(claim=claim(), call=call, outcome=outcome, started_us=0, worker="w", tried=True)
    end = End(CallState.ESCALATED, Effect.UNKNOWN, "in_doubt", Failure.SEND_RESET)
    over = settlements.finished(tried, end, "letter")
    way = Way(lane="crm|-|contacts.get", timeout_us=1, deadline_us=1)
    for event in (
        reports.accepted(call, NOW, reviewed=False),
        *settlements.ending(tried, over, None, 0).events,
        *settlements.deferral(tried, RetryAt(1, Effect.UNKNOWN)).events,
        *settlements.detour(replace(tried, tried=False), 1, way, "nothing there yet").events,
    ):
        yield fields(event)


def fields(event: str) -> tuple[str, set[str]]:
    decoded: dict[str, Any] = json.loads(event)
    return decoded["type"], set(decoded["data"])


def test_every_lifecycle_event_has_the_fields_that_are_told() -> None:
    document = text("docs/telemetry.md")
    common = first_column(section(document, "Every lifecycle event"))
    seen = set()
    for kind, given in told():
        seen.add(kind)
        assert given == common | first_column(section(document, f"`{kind}`")), kind
    assert seen == set(re.findall(r"^### `([a-z_.]+)`", document, re.MULTILINE))


def test_a_refused_event_has_the_fields_that_are_told() -> None:
    call = tool_call()
    incoming = Incoming(
        call=call.id,
        data={"tool": call.tool, "arguments": {}},
        agent=call.agent,
        request=call.request,
        key=call.key,
        traceparent=None,
        origin=call.origin,
        now=NOW,
    )
    refuse = Refuse(failure=Failure.INGEST_SCOPE, message="no")
    first, second = map(fields, reports.rejected_events(incoming, reports.rejection(incoming, refuse)))
    documented = first_column(section(text("docs/telemetry.md"), "A refused event"))
    assert (first[1], second[1]) == (documented, documented | {"effect", "error"})


def test_every_log_line_and_alert_is_in_its_table() -> None:
    document = text("docs/telemetry.md")
    logged: set[str] = set()
    alerts: set[str] = set()
    for path in CODE:
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
            if not isinstance(first, str) or not re.fullmatch(r"[a-z]+\.[a-z_]+", first):
                continue
            function = ast.unparse(call.func)
            if function.endswith((".alert", "._alert", "alerts.publish")):
                alerts.add(first)
            elif function.startswith(("log.", "(log.")):
                logged.add(first)
    for script in sorted((ROOT / "gateway/lanes/lua").rglob("*.lua")):
        for told in re.findall(r"publish\(alerts, (.*)", script.read_text(encoding="utf-8")):
            alerts |= set(re.findall(r"'([a-z]+\.[a-z_]+)'", told))
    assert first_column(section(document, "Log lines")) == logged | alerts
    alerted = {row[0].strip("`") for row in rows(section(document, "Alerts"))}
    assert alerted == alerts


# Paths, links, keys, commands


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|lua|ya?ml|toml))\b", path.read_text(encoding="utf-8"))
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_the_table_of_keys_is_complete_and_each_key_has_one_meaning() -> None:
    used: set[str] = set()
    for script in sorted((ROOT / "gateway/lanes/lua").rglob("*.lua")):
        used |= {
            found[0] + ("*" if found[1] else "")
            for found in re.findall(r"shard \.\. ':([a-z]+)(:?)'", script.read_text(encoding="utf-8"))
        }
    for path in CODE:
        source = path.read_text(encoding="utf-8")
        used |= {
            found[0] + ("*" if found[1] else "")
            for found in re.findall(r"\.key\(f?\"([a-z]+)(:?)(?:\{[a-z]+\})?\"", source)
        }
    table = rows(section(ARCHITECTURE, "What Redis holds"))
    listed = [key.replace(":*", "*") for row in table for key in re.findall(r"`([^`]+)`", row[0])]
    assert len(listed) == len(set(listed))
    assert set(listed) == used


def dev() -> ModuleType:
    loader = SourceFileLoader("dev_script", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dev_script"] = module
    loader.exec_module(module)
    return module


def lines_of(document: str) -> list[str]:
    """Return the shell lines of a document: those in its blocks, and those in its prose."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", document, re.DOTALL)
    prose = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", document, flags=re.DOTALL))
    return [line.strip().removeprefix("$ ").split("  #")[0] for block in blocks for line in block.splitlines()] + prose


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_command_that_is_named_exists(path: Path) -> None:
    later = documents.unbuilt_commands()
    for line in lines_of(path.read_text(encoding="utf-8")):
        if line.startswith("./dev "):
            assert line.split()[1] in dev().VERBS, line
        elif line.startswith("sluice "):
            words = shlex.split(line)[1:]
            assert documents.exists(words) or any(unbuilt.startswith(" ".join(words[:2])) for unbuilt in later), line
            assert unknown_flags(words) == set(), line


def unknown_flags(words: list[str]) -> set[str]:
    command = documents.root()
    for word in words:
        commands = getattr(command, "commands", {})
        command = commands.get(word, command)
    known = {flag for one in command.params for flag in one.opts} | {"--help"}
    return {word for word in words if re.fullmatch(r"--?[a-z]+", word)} - known


def test_the_first_screen_has_no_badge_and_no_table_of_contents() -> None:
    assert re.findall(r"!\[[^]]*\]\(([^)]*)\)", README) == ["docs/demo.svg"]
    opening = README.split("\n## ")[0]
    assert len(opening.splitlines()) <= 40
    assert "![" not in opening
    assert not re.search(r"^- \[", opening, re.MULTILINE)


def test_architecture_fits_in_one_sitting() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 150


# Examples and decisions


def test_the_examples_are_right() -> None:
    loaded = manifests.load([ROOT / "examples"], {})
    assert [str(problem) for problem in loaded.errors] == []
    assert {"mail.messages.send", "crm.contacts.create"} <= set(loaded.catalog.operations)


def test_the_manifest_of_the_readme_is_the_example() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    example = [line for line in text("examples/json-api.yaml").splitlines() if not line.startswith("#")]
    assert shown.splitlines() == example
    assert len(example) <= 10


def test_every_decision_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\((\d{4}-[a-z-]+\.md)\)", text("docs/adr/README.md")))
    assert linked == {path.name for path in DECISIONS}


@pytest.mark.parametrize("path", DECISIONS, ids=name)
def test_a_decision_names_what_enforces_it(path: Path) -> None:
    decision = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", decision, re.MULTILINE)
    assert headings == ["Context", "Choice", "Cost", "When to revisit", "Enforced by"]
    assert len(decision.splitlines()) <= 60
    contracts = {one["name"] for one in tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]}
    enforcers = re.findall(r"^- (.+)$", section(decision, "Enforced by"), re.MULTILINE)
    assert enforcers
    for enforcer in enforcers:
        if found := re.fullmatch(r'contract "(.+)"', enforcer):
            assert found[1] in contracts, enforcer
        else:
            file, _, test = enforcer.strip("`").partition("::")
            assert re.search(rf"^(async )?def {test}\(", text(file), re.MULTILINE), enforcer
