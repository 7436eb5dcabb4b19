"""`sluice health` and `sluice preflight`: how the vendors are, and whether a plan may start. Through the API."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, show_rows, span, stop

Connector = Annotated[str | None, typer.Argument(help="Only this connector.", metavar="[CONNECTOR]")]
Tools = Annotated[list[str] | None, typer.Argument(help="Tools, each with how often.", metavar="TOOL[:COUNT]...")]
PlanFile = Annotated[
    str | None, typer.Option("--plan", metavar="FILE", help="A plan in JSON or YAML; `-` reads stdin.")
]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long the task lasts, as 45m or 2h.")]
Deadline = Annotated[str | None, typer.Option("--deadline", metavar="TIME", help="When all is done, RFC 3339.")]
Connection = Annotated[str | None, typer.Option("--connection", help="Whose credentials to use, for all tools named.")]
AgentName = Annotated[str | None, typer.Option("--agent", help="Whose scope to judge; for Operators.")]
Every = Annotated[bool, typer.Option("--all", help="Also list the checks that pass.")]

CHECKS = ("STEP", "CHECK", "STATUS", "DETAIL", "NEXT")
SIGNS = ("WHAT", "STATUS", "SEEN", "DETAIL", "NEXT")
DOWN = "down"
WAIT_S = 30.0
"""A refresh may be tested under way."""

_STEP = re.compile(r"([^:]+)(?::([0-9]+))?")


def register(app: typer.Typer) -> None:
    """Add `health` and `preflight`."""
    app.command()(health)
    app.command()(preflight)


def health(connector: Connector = None, every: Every = False, output: options.Output = None) -> None:
    """Show how the vendors are, worst first: what was seen, how long ago, and the next step.

    Rests on what calls have shown. Only where none was made lately a connector's probe is called, or its host dialled.
    Exit 5 when the answer is down: a vendor that fails, an open breaker, a paused tool, a credential that is missing.

    \b
    Examples:
      sluice health
      sluice health crm --all
      sluice health -o json
    """
    answer = _looked(connector)
    if chosen(output) is not Format.TABLE:
        show_one(answer, output)
    else:
        _tell(answer, list(health_rows(answer, every=every)), output)
    _must_be_up(answer)


def check(connector: Connector = None, output: options.Output = None) -> None:
    """Say whether connectors can be used now, each with all that was looked at; exit 5 when one cannot.

    Looks as `sluice health` does: at what calls have shown, else a connector's probe is called, or its host dialled.

    \b
    Examples:
      sluice connectors check
      sluice connectors check crm -o json
    """
    answer = _looked(connector)
    if chosen(output) is Format.TABLE:
        _tell(answer, list(health_rows(answer, every=True)), output)
    else:
        show_one(answer, output)
        _end(answer, answer["sentence"])
    _must_be_up(answer)


def _must_be_up(answer: Mapping[str, Any]) -> None:
    if answer["status"] == DOWN:
        raise typer.Exit(Exit.UNAVAILABLE)


def _tell(answer: Mapping[str, Any], rows: list[dict[str, Any]], output: Format | None) -> None:
    """Write the table, and below it the verdict: its sentence only where no line of the table has it."""
    show_rows(rows, output, columns=SIGNS, spare=("SEEN",))
    sentence = str(answer["sentence"])
    if any(sentence.endswith(row["DETAIL"]) for row in rows):
        sentence = f"{answer['connectors'][0]['connector']}."
    _end(answer, sentence)


def _end(answer: Mapping[str, Any], sentence: str) -> None:
    say(f"{answer['status']}: {sentence}")
    if answer["action"]:
        say(f"  next: {answer['action']}")


def _looked(connector: str | None) -> dict[str, Any]:
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    query = f"?{urlencode({'connector': connector})}" if connector is not None else ""
    _, answer = client.ask("GET", f"/v1/health{query}", wait_s=WAIT_S)
    return dict(answer)


def preflight(
    tools: Tools = None,
    plan: PlanFile = None,
    lasting: For = None,
    deadline: Deadline = None,
    connection: Connection = None,
    agent: AgentName = None,
    every: Every = False,
    output: options.Output = None,
) -> None:
    """Say whether a plan may start, and what is in its way. No call is made, and nothing is reserved.

    Exit 0 for go and go with conditions, 5 for no go. What is told holds for seconds: it is a lease, not a promise.

    \b
    Examples:
      sluice preflight crm.contacts.create:200 crm.contacts.get:200 --for 45m
      sluice preflight crm.contacts.create --connection crm-main --all
      sluice preflight --plan plan.yaml --deadline 2026-12-01T06:00:00Z -o json

    \b
    A plan:
      steps:
        - {tool: crm.contacts.create, connection: crm-main, count: 200, arguments: {email: a@b.c}}
        - {tool: crm.contacts.get, count: 200, critical: false}
      duration_s: 2700
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    body = _body(tools or [], plan, connection)
    given = {"duration_s": _seconds(lasting), "deadline": deadline, "agent": agent}
    body |= {name: value for name, value in given.items() if value is not None}
    _, answer = client.ask("POST", "/v1/preflight", body=body, wait_s=WAIT_S)
    if chosen(output) is Format.TABLE:
        show_rows(list(check_rows(answer, every=every)), output, columns=CHECKS)
    else:
        show_one(answer, output)
    say(told(answer))
    for action in dict.fromkeys(
        check["action"] for step in answer["steps"] for check in step["checks"] if check["action"]
    ):
        say(f"  next: {action}")
    if answer["verdict"] == "no_go":
        raise typer.Exit(Exit.UNAVAILABLE)


def told(answer: Mapping[str, Any]) -> str:
    """Say the verdict in one line."""
    words = {"go": "Go.", "go_with_conditions": "Go, with conditions.", "no_go": "No go."}[answer["verdict"]]
    eta = answer["eta_s"]
    takes = (
        "nobody can tell how long it takes" if eta is None else f"about {span(eta['p50'])}, perhaps {span(eta['p95'])}"
    )
    return f"{words} {takes[:1].upper()}{takes[1:]}; valid until {answer['valid_until'][11:19]}Z."


def check_rows(answer: Mapping[str, Any], *, every: bool) -> Iterator[dict[str, Any]]:
    """Yield the lines of a table: what does not pass, and one line for a step that passes."""
    for step in answer["steps"]:
        name = f"{step['tool']}:{step['count']}" + ("" if step["critical"] else " (not critical)")
        shown = [check for check in step["checks"] if every or check["status"] != "pass"]
        if not shown:
            eta = next(check["detail"] for check in step["checks"] if check["name"] == "deadline")
            yield _line(CHECKS, name, "all", "pass", eta, None)
        for check in shown:
            yield _line(CHECKS, name, check["name"], check["status"], check["detail"], check["action"] or None)
            name = ""


def health_rows(answer: Mapping[str, Any], *, every: bool) -> Iterator[dict[str, Any]]:
    """Yield the lines of a table: connections, and below them what is not well or, with `every`, all."""
    for connector in answer["connectors"]:
        for connection in connector["connections"]:
            name = f"{connector['connector']}/{connection['connection'] or '-'}"
            ages = [
                sign["evidence_age_s"]
                for one in connection["operations"]
                for sign in one["evidence"]
                if sign["name"] == "calls"
            ]
            seen = min((age for age in ages if age is not None), default=None)
            yield _line(
                SIGNS, name, connection["status"], _age(seen), connection["sentence"], connection["action"] or None
            )
            for one in connection["operations"]:
                if every or one["status"] in {"down", "degraded"}:
                    age = next(sign["evidence_age_s"] for sign in one["evidence"] if sign["name"] == "calls")
                    yield _line(
                        SIGNS, f"  {one['tool']}", one["status"], _age(age), one["sentence"], one["action"] or None
                    )


def _line(columns: Sequence[str], *values: object) -> dict[str, Any]:
    return dict(zip(columns, values, strict=True))


def _age(seconds: float | None) -> str | None:
    return None if seconds is None else f"{span(round(seconds, 1))} ago"


def _body(tools: Sequence[str], plan: str | None, connection: str | None) -> dict[str, Any]:
    if bool(tools) == (plan is not None):
        stop(Exit.USAGE, "Name either tools or a --plan.", "sluice preflight --help")
    if plan is not None:
        return _read(plan)
    return {"steps": [_step(text, connection) for text in tools]}


def _step(text: str, connection: str | None) -> dict[str, Any]:
    found = _STEP.fullmatch(text)
    if found is None:
        stop(Exit.USAGE, f"{text!r} is not TOOL or TOOL:COUNT.", "sluice preflight --help")
    step = {"tool": found[1], "count": int(found[2] or 1), "connection": connection}
    return {name: value for name, value in step.items() if value is not None}


def _read(file: str) -> dict[str, Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        # JSON is read as such: it is stricter, and its errors are plainer.
        value = (
            json.loads(text)
            if text.lstrip().startswith("{") and file.endswith((".json", "-"))
            else YAML(typ="safe", pure=True).load(text)
        )
    except (OSError, ValueError, YAMLError) as error:
        stop(Exit.USAGE, f"{file} cannot be read: {error}")
    if not isinstance(value, dict):
        stop(Exit.USAGE, f"{file} is not a plan: it has no steps.", "sluice preflight --help")
    return json.loads(json.dumps(value, default=str))  # type: ignore[no-any-return]


def _seconds(text: str | None) -> float | None:
    from connectors.manifest.units import Duration  # noqa: PLC0415

    try:
        return None if text is None else Duration.parse(text).seconds
    except ValueError as error:
        stop(Exit.USAGE, f"--for {text}: {error}")
