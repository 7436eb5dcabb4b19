"""`sluice dlq replay` and `edit`: a plan first, then the replay, then how it ended."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, span, stop

Ids = Annotated[list[str] | None, typer.Argument(help="Letters.", metavar="[LETTER]…")]
Group = Annotated[str | None, typer.Option("--group", metavar="FINGERPRINT", help="All open letters of one group.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="NAME=VALUE", help="A filter as of `ls`; repeatable, all must hold."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; it can be started later.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it ends.")]
Canary = Annotated[int | None, typer.Option("--canary", help="Letters that go first and alone.")]
Share = Annotated[float, typer.Option("--share", help="Of the pace of each lane, above 0 and up to 1.")]
StopAfter = Annotated[int, typer.Option("--stop-after", help="Stop when the same failure comes again more often.")]
PatchFile = Annotated[
    Path | None, typer.Option("--patch", metavar="FILE", help="A JSON Patch of one letter's arguments.")
]
Override = Annotated[
    str | None,
    typer.Option(
        "--override", metavar="REASON", help="Also what was replayed as often as it may be; the reason is kept."
    ),
]
Letter = Annotated[str, typer.Argument(help="The letter's id.", metavar="LETTER")]

LOOK_EVERY_S = 0.5

PLAN_S = 120.0
"""Seconds that planning may take: each letter is opened and judged."""


def register(several: typer.Typer) -> None:
    """Add both to `dlq`."""
    several.command()(replay)
    several.command()(edit)


def replay(
    ids: Ids = None,
    group: Group = None,
    where: Where = None,
    patch: PatchFile = None,
    override: Override = None,
    dry_run: DryRun = False,
    canary: Canary = None,
    share: Share = 0.5,
    stop_after: StopAfter = 3,
    yes: Yes = False,
    wait: Wait = True,
    output: options.Output = None,
) -> None:
    """Replay letters: what did not run is called, what ran is only judged again, and what nobody knows is left alone.

    \b
    Examples:
      sluice dlq replay 01JCW3H5N0000000000000000A
      sluice dlq replay --group v1:9f2c51d0a7b3e846 --dry-run
      sluice dlq replay --where tool=crm.contacts.create --where effect=not_executed --canary 5 --yes
    """
    how = {"canary": canary, "share": share, "stop_after": stop_after, "override": override}
    body = {**_selection(ids, group, where), **{name: value for name, value in how.items() if value is not None}}
    if patch is not None:
        body["patch"] = _read(patch)
    _run(body, dry_run=dry_run, yes=yes, wait=wait, output=output)


def edit(
    letter: Letter, dry_run: DryRun = False, yes: Yes = False, wait: Wait = True, output: options.Output = None
) -> None:
    """Change the arguments of a letter in $EDITOR and replay it; only of a call that did not run.

    \b
    Examples:
      sluice dlq edit 01JCW3H5N0000000000000000A
      EDITOR=nano sluice dlq edit 01JCW3H5N0000000000000000A --dry-run
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    _, answer = client.ask("GET", f"/v1/dead-letters/{quote(letter, safe='')}?open=true")
    before = (answer["opened"] or {}).get("arguments")
    if before is None:
        stop(Exit.USAGE, f"Letter {letter} has no arguments.", f"sluice dlq show {letter}")
    after = _edited(before)
    if after == before:
        stop(Exit.OK, "Nothing was changed, and nothing is replayed.")
    # The test makes sure that what is changed is what was shown.
    patch = [{"op": "test", "path": "", "value": before}, {"op": "replace", "path": "", "value": after}]
    _run({"ids": [letter], "patch": patch}, dry_run=dry_run, yes=yes, wait=wait, output=output)


def _run(body: dict[str, Any], *, dry_run: bool, yes: bool, wait: bool, output: Format | None) -> None:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    _, plan = client.ask("POST", "/v1/replays", body={**body, "dry_run": True}, wait_s=PLAN_S)
    name = plan["replay"]
    if dry_run or plan["total"] == plan["excluded"]:
        show(plan, output)
        say(
            f"Nothing was called. To start it: sluice replays start {name}"
            if plan["total"] > plan["excluded"]
            else "There is nothing to replay; what each letter needs first stands beside `next`."
        )
        return
    if not yes:
        _ask(plan)
    _, plan = client.ask("POST", f"/v1/replays/{name}/start")
    if wait:
        plan = follow(name)
    show(plan, output)
    finish(plan)


def _ask(plan: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        stop(Exit.USAGE, "Nobody can be asked here: say --yes, or --dry-run.", f"sluice replays show {plan['replay']}")
    for one in plan["actions"]:
        say(f"  {one['letters']} × {one['action']}: {one['reason']}")
    for one in plan["changes"]:
        say(f"  {one['change']} {one['pointer'] or '(all)'}: {_change(one)}")
    say(f"About {span(plan['eta_s'])} at the pace of its lanes.")
    typer.confirm("Replay?", abort=True, err=True)


def follow(name: str) -> dict[str, Any]:
    """Look at a replay until it runs no more."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    told = ""
    while True:
        _, plan = client.ask("GET", f"/v1/replays/{quote(name, safe='')}")
        line = progress(plan)
        if line != told and sys.stderr.isatty():
            say(line)
        told = line
        if plan["state"] != "running":
            return plan
        time.sleep(LOOK_EVERY_S)


def finish(plan: dict[str, Any]) -> None:
    """Say how a replay stands, and end with the code that fits."""
    say(f"Replay {plan['replay']} is {plan['state']}{': ' + plan['why'] if plan['why'] else ''}. {progress(plan)}")
    sums = plan["progress"]
    if plan["state"] == "stopped":
        say(f"  next: sluice replays resume {plan['replay']} | sluice replays cancel {plan['replay']}")
        raise typer.Exit(Exit.FAILED)
    if sums["replayed_failed"] or sums["open"] or sums["skipped"]:
        say(f"  next: sluice replays show {plan['replay']}")
        raise typer.Exit(Exit.PARTIAL)


def progress(plan: dict[str, Any]) -> str:
    """Return how far a replay is, in words."""
    sums = plan["progress"]
    names = {"replayed_ok": "ok", "replayed_failed": "failed", "open": "withdrawn", "skipped": "skipped"}
    parts = [f"{sums.get(name, 0)} {word}" for name, word in names.items() if sums.get(name)]
    left = sums.get("waiting", 0) + sums.get("replaying", 0)
    return ", ".join([*parts, f"{left} to go"] if left else parts) or "nothing sent"


def show(plan: dict[str, Any], output: Format | None) -> None:
    """Show one replay."""
    if chosen(output) is not Format.TABLE:
        show_one(plan, output)
        return
    facts = {name: plan[name] for name in ("replay", "state", "by", "why", "total") if plan[name] != ""}
    rows = {f"{one['letters']} × {one['action']}": _why(one) for one in plan["actions"]}
    changes = {f"{one['change']} {one['pointer'] or '(all)'}": _change(one) for one in plan["changes"]}
    lanes = {f"lane {one['lane']}": _lane(one) for one in plan["lanes"]}
    how = {
        "canary": f"{plan['canary']} first and alone" if plan["canary"] else None,
        "share": f"{plan['share']:g} of the pace of each lane",
        "estimate": span(plan["eta_s"]),
        "progress": progress(plan),
    } | ({"override": plan["override"]} if plan["override"] else {})
    show_one(plan, output, table={**facts, **rows, **changes, **lanes, **how})


def _why(one: dict[str, Any]) -> str:
    return f"{one['tool'] or '-'}, {one['effect']}: {one['reason']}" + (f"\nnext: {one['next']}" if one["next"] else "")


def _change(one: dict[str, Any]) -> str:
    sides = {"added": ("after",), "removed": ("before",)}.get(one["change"], ("before", "after"))
    return " → ".join(one[side] if isinstance(one[side], str) else json.dumps(one[side]) for side in sides)


def _lane(one: dict[str, Any]) -> str:
    costs = [
        f"takes {limit['takes']} of {limit['limit']} ({limit['most']}, {limit['used'] or 0} used)"
        for limit in one["limits"]
    ]
    parts = [f"{one['letters']} at {one['pace_per_s']:g}/s, {one['waiting']} waiting", *costs]
    return "; ".join([*parts, one["held"]] if one["held"] else parts)


def _selection(ids: list[str] | None, group: str | None, where: list[str] | None) -> dict[str, Any]:
    if ids and (group or where):
        stop(Exit.USAGE, "Name letters, or a group and filters, but not both.")
    if ids:
        return {"ids": ids}
    pairs = [one.partition("=") for one in where or []]
    if not group and not pairs:
        stop(Exit.USAGE, "Which letters? Name them, or --group, or --where.", "sluice dlq groups")
    if any(not equals for _, equals, _ in pairs):
        stop(Exit.USAGE, "--where: write name=value")
    return {"filter": {name: value for name, _, value in pairs} | ({"fingerprint": group} if group else {})}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        stop(Exit.USAGE, f"--patch {path}: {error}")


def _edited(before: Any) -> Any:
    """Let the person change a value in the editor of the environment; the file is for his eyes only, and removed."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    descriptor, name = tempfile.mkstemp(prefix="sluice-", suffix=".json")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(before, file, indent=2, ensure_ascii=False)
        ran = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the person's own editor
        if ran.returncode != 0:
            stop(Exit.FAILED, f"{editor} ended with {ran.returncode}; nothing is replayed.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stop(Exit.USAGE, f"There is no {editor}; set EDITOR.")
    except ValueError as error:
        stop(Exit.USAGE, f"That is not JSON: {error}. Nothing is replayed.")
    finally:
        path.unlink(missing_ok=True)
