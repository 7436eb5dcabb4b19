"""`sluice dlq`: what could not be finished, what is alike, and what is to be done about it. Through the API."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gateway.entrypoints.cli import dlq_reindex, dlq_replay, options
from gateway.entrypoints.cli.output import Exit, Format, chosen, say, show_one, show_rows, stop

Letter = Annotated[str, typer.Argument(help="The letter's id.", metavar="LETTER")]
Because = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the decision.")]
Status = Annotated[str | None, typer.Option("--status", help="open, replaying, replayed_ok, replayed_failed, …")]
Error = Annotated[str | None, typer.Option("--error", help="The failure's class, such as http.422.")]
Effect = Annotated[str | None, typer.Option("--effect", help="not_executed, executed or unknown.")]
Group = Annotated[str | None, typer.Option("--group", metavar="FINGERPRINT", help="One group, as `groups` lists it.")]
Tool = Annotated[str | None, typer.Option("--tool")]
Agent = Annotated[str | None, typer.Option("--agent")]
Session = Annotated[str | None, typer.Option("--session")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, with a zone.")]
Text = Annotated[str | None, typer.Option("--text", metavar="WORDS", help="Words that all occur.")]
Limit = Annotated[int, typer.Option("--limit", "-n", help="How many at most.")]

COLUMNS = ("LETTER", "STATUS", "TOOL", "ERROR", "EFFECT", "AGENT", "LAST")
GROUPS = ("GROUP", "OPEN", "ALL", "TOOL", "ERROR", "EFFECTS", "LAST", "MESSAGE")
WIDE = 48
"""Characters of a message in a list."""

PAGE = 200


def register(app: typer.Typer) -> None:
    """Add `dlq`."""
    several = options.group(
        "Dead letters: look, decide, replay.",
        "sluice dlq groups",
        "sluice dlq show 01JCW3H5N0000000000000000A --open",
        "sluice dlq replay --group v1:9f2c51d0a7b3e846 --dry-run",
    )
    for command in (ls, groups, show, resolve, discard, export):
        several.command()(command)
    dlq_replay.register(several)
    dlq_reindex.register(several)
    app.add_typer(several, name="dlq")


def ls(
    status: Status = None,
    error: Error = None,
    effect: Effect = None,
    group: Group = None,
    tool: Tool = None,
    agent: Agent = None,
    session: Session = None,
    since: Since = None,
    text: Text = None,
    limit: Limit = 50,
    output: options.Output = None,
) -> None:
    """List letters, newest first.

    \b
    Examples:
      sluice dlq ls --status open
      sluice dlq ls --tool crm.contacts.create --effect unknown -n 200
      sluice dlq ls --text "connection reset" -o json
    """
    wanted = filters(
        status=status, error=error, effect=effect, fingerprint=group, tool=tool, agent=agent, session=session,
        since=since, text=text,
    )  # fmt: skip
    found = list(letters(wanted, limit))
    table = chosen(output) is Format.TABLE
    show_rows(
        [row(one) for one in found] if table else found, output, columns=COLUMNS, spare=("AGENT", "LAST", "STATUS")
    )


def groups(
    status: Status = "open",
    error: Error = None,
    effect: Effect = None,
    tool: Tool = None,
    output: options.Output = None,
) -> None:
    """Show what is alike, the largest groups first.

    \b
    Examples:
      sluice dlq groups
      sluice dlq groups --tool crm.contacts.create
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415 - `--help` does not need it

    wanted = filters(status=status, error=error, effect=effect, tool=tool)
    _, answer = client.ask("GET", f"/v1/dead-letters/groups?{urlencode(wanted)}")
    found = answer["groups"]
    table = chosen(output) is Format.TABLE
    show_rows(
        [group_row(one) for one in found] if table else found, output, columns=GROUPS, spare=("LAST", "ALL", "MESSAGE")
    )
    if found:
        say(f"  next: sluice dlq replay --group {found[0]['fingerprint']} --dry-run")


def show(
    letter: Letter,
    open_: Annotated[
        bool, typer.Option("--open", help="Also what is sealed: arguments and answer. It is noted.")
    ] = False,
    output: options.Output = None,
) -> None:
    """Show one letter whole.

    \b
    Examples:
      sluice dlq show 01JCW3H5N0000000000000000A
      sluice dlq show 01JCW3H5N0000000000000000A --open -o json
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    query = "?open=true" if open_ else ""
    _, answer = client.ask("GET", f"/v1/dead-letters/{quote(letter, safe='')}{query}")
    show_one(answer, output, table=brief(answer))
    if answer["status"] == "open":
        if answer["opened"] is None and answer["record"]["privacy"]["redacted_paths"]:
            say(f"  what was sent: sluice dlq show {letter} --open")
        say(f"  next: {_next(letter, answer)}")


def _next(letter: str, answer: Mapping[str, Any]) -> str:
    """Return the failure's own next step, or what follows when a person has said meanwhile that it did not run."""
    if answer["decided_by"] is not None and answer["effect"] == "not_executed":
        return f"sluice dlq replay {letter} --dry-run"
    return str(answer["record"]["failure"]["action"])


def resolve(
    letter: Letter,
    done: Annotated[bool | None, typer.Option("--done/--not-done", help="It ran, or it did not.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="How you know; kept.")] = None,
    output: options.Output = None,
) -> None:
    """Say whether a call ran: done ends its letter, not done lets it be replayed. On a terminal it asks what is not given.

    \b
    Examples:
      sluice dlq resolve 01JCW3H5N0000000000000000A --done --reason "it is in their list"
      sluice dlq resolve 01JCW3H5N0000000000000000A --not-done --reason "asked their support"
    """
    outcome = "done" if _ran(letter, done) else "not_done"
    answer = _decide(letter, "resolve", {"outcome": outcome, "reason": _known(reason)}, output)
    if answer["status"] == "open":
        say(f"  next: sluice dlq replay {letter} --dry-run")


def discard(letter: Letter, reason: Because, output: options.Output = None) -> None:
    """Say that nothing is to be done about a letter any more.

    \b
    Examples:
      sluice dlq discard 01JCW3H5N0000000000000000A --reason "a test of ours"
    """
    _decide(letter, "discard", {"reason": reason}, output)


def export(
    status: Status = None,
    error: Error = None,
    effect: Effect = None,
    group: Group = None,
    tool: Tool = None,
    limit: Limit = 10_000,
) -> None:
    """Write whole records as JSON lines, their sealed parts sealed.

    \b
    Examples:
      sluice dlq export > letters.jsonl
      sluice dlq export --group v1:9f2c51d0a7b3e846 > group.jsonl
    """
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    written = 0
    for one in letters(filters(status=status, error=error, effect=effect, fingerprint=group, tool=tool), limit):
        _, answer = client.ask("GET", f"/v1/dead-letters/{quote(one['letter'], safe='')}")
        show_one(answer, Format.JSONL)
        written += 1
    say(f"{written} letters.")


def filters(**given: str | None) -> dict[str, str]:
    """Return what was given."""
    return {name: value for name, value in given.items() if value is not None}


def letters(wanted: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Yield letters page by page, at most so many."""
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    cursor: str | None = None
    while limit > 0:
        query = {**wanted, "limit": str(min(limit, PAGE)), **({"cursor": cursor} if cursor else {})}
        _, answer = client.ask("GET", f"/v1/dead-letters?{urlencode(query)}")
        yield from answer["letters"]
        limit -= len(answer["letters"])
        cursor = answer["cursor"]
        if cursor is None or limit <= 0:
            if cursor and not answer["complete"]:
                say("There are more than were looked at; narrow the filter.")
            return


def row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a letter as one line of a table."""
    values = (one["letter"], one["status"], one["tool"], one["error"], one["effect"], one["agent"], when(one["last"]))
    return dict(zip(COLUMNS, values, strict=True))


def group_row(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group as one line of a table."""
    effects = " ".join(f"{count} {name}" for name, count in sorted(one["effects"].items()))
    told = one["message"] if len(one["message"]) <= WIDE else f"{one['message'][: WIDE - 1]}…"
    values = (
        one["fingerprint"],
        one["open"],
        one["letters"],
        one["tool"],
        one["error"],
        effects,
        when(one["last"]),
        told,
    )
    return dict(zip(GROUPS, values, strict=True))


def brief(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wants to know of a letter first."""
    record, opened = answer["record"], answer["opened"] or {}
    identity, failure, upstream = record["identity"], record["failure"], record["upstream"] or {}
    facts = {
        "letter": answer["letter"],
        "status": answer["status"],
        "tool": record["operation"]["tool"],
        "class": record["operation"]["op_class"],
        "connection": record["operation"]["connection"],
        "agent": identity["agent_id"],
        "session": identity["session_id"],
        "call": identity["call"],
        "error": failure["class"],
        "message": failure["message"],
        "effect": f"{answer['effect']} ({_told_by(answer)})",
        "http": upstream.get("http_status"),
        "attempts": record["attempts"]["total"],
        "last": failure["last_at"],
        "group": record["grouping"]["fingerprint"],
        "chain": _chain(record["lifecycle"]),
        **({"replay": answer["replay"]} if answer["replay"] else {}),
    }
    findings = [finding["sentence"] for finding in failure["findings"]]
    sealed = {name: value if isinstance(value, str) else json.dumps(value) for name, value in opened.items()}
    return {**facts, **({"findings": "\n".join(findings)} if findings else {}), **sealed}


def _told_by(answer: Mapping[str, Any]) -> str:
    """Return who told the effect and how it is known: a rule by its evidence, or a person with a reason."""
    if answer["decided_by"] is None:
        return f"{answer['record']['effect']['evidence']}, by rule"
    return f"by {answer['decided_by']}" + (f": {answer['reason']}" if answer["reason"] else "")


def _chain(lifecycle: Mapping[str, Any]) -> str:
    """Return how many replays lie before a letter."""
    count, parent = lifecycle["generation"], lifecycle["parent_id"]
    return f"after {count} replays, the last of {parent}" if parent else "the first letter of its call"


def when(stamped: str) -> str:
    """Return a time as a table shows it."""
    return f"{stamped[:10]} {stamped[11:19]}Z"


def _ran(letter: str, done: bool | None) -> bool:
    if done is not None:
        return done
    if not _asks():
        stop(Exit.USAGE, "Say --done or --not-done: whether the call ran.", f"sluice dlq show {letter}")
    return typer.confirm("Did it run at the vendor?", err=True)


def _asks() -> bool:
    """Tell whether somebody is there to answer, and nothing else reads what is written."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _known(reason: str | None) -> str:
    """Return how a person knows: as given, else asked for, else, where nobody can be asked, that nothing was said."""
    if reason is None and _asks():
        return str(typer.prompt("How do you know? (kept with the decision)", err=True))
    return "no reason was given" if reason is None else reason


def _decide(letter: str, verb: str, body: dict[str, Any], output: Format | None) -> dict[str, Any]:
    from gateway.entrypoints.cli import client  # noqa: PLC0415

    if not body["reason"].strip():
        stop(Exit.USAGE, "--reason: say why")
    _, answer = client.ask("POST", f"/v1/dead-letters/{quote(letter, safe='')}/{verb}", body=body)
    show_one(answer, output, table=brief(answer))
    say(f"Letter {letter} is {answer['status']}; its effect: {answer['effect']}.")
    return answer
