"""Dead letters over HTTP: find them, look at one, see what is alike, and decide. An Agent sees its own calls' letters only."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath

from dlq.keys import UnsealError
from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.parts import parts_of
from gateway.entrypoints.api.problems import FieldError, Kind, ProblemError, plain
from gateway.entrypoints.api.telling import told
from gateway.flow.dead_letters import Shown
from gateway.flow.refusals import Nowhere, Unfit
from gateway.lanes.letters import Unlisted
from gateway.ports.letters import LetterFilter, LetterGroup, LetterRow
from schemas.dead_letter import DeadLetter
from schemas.effect import Effect, OperationClass
from schemas.letter import LetterStatus
from schemas.moment import microseconds, moment, stamp

Http = Request[Any, Any, Any]

PAGE, MOST_PAGE = 50, 500
_NAMES = ("effect", "fingerprint", "tool", "connector", "connection", "agent", "session", "call", "root", "text")
FIELDS = (*_NAMES, "status", "error", "since", "until")
"""What letters are asked for by."""


class LetterView(msgspec.Struct, frozen=True, kw_only=True):
    """One letter in a list."""

    letter: str
    status: LetterStatus
    tool: str | None
    connection: str | None
    op_class: OperationClass | None = msgspec.field(name="class")
    agent: str | None
    session: str | None
    call: str | None
    error: str
    message: str
    effect: Effect
    fingerprint: str
    action: str
    first: str
    last: str
    root: str
    parent: str | None
    generation: int
    decided_by: str | None
    reason: str | None
    replay: str | None


class LettersView(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first; `complete` is false when the question would have had to look at more letters than it may."""

    letters: list[LetterView]
    cursor: str | None
    complete: bool


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """Letters with one fingerprint."""

    fingerprint: str
    letters: int
    open: int
    effects: dict[str, int]
    error: str
    tool: str | None
    message: str
    first: str
    last: str
    newest: str


class GroupsView(msgspec.Struct, frozen=True, kw_only=True):
    """The largest groups first."""

    groups: list[GroupView]


class LetterRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A letter's `dlr/1` record, how it stands now, and its sealed parts where they were asked for."""

    letter: str
    status: LetterStatus
    effect: Effect
    decided_by: str | None
    reason: str | None
    replay: str | None
    record: DeadLetter
    opened: dict[str, Any] | None


class ResolveBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether it ran at the vendor, and how that is known."""

    outcome: Literal["done", "not_done"]
    reason: str


class DiscardBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why nothing is to be done."""

    reason: str


@get(
    "/v1/dead-letters", operation_id="listDeadLetters", summary="What could not be finished", responses=described.LANES
)
async def ls(request: Http) -> LettersView:
    """List letters, newest first; `?status= error= effect= fingerprint= tool= connector= … since= until= text= cursor= limit=`."""
    query = request.query_params
    with of_letters():
        wanted = asked(query, request)
        page = await parts_of(request).letters.find(
            wanted, cursor=query.get("cursor"), limit=_limit(query.get("limit"))
        )
    return LettersView(letters=[_view(row) for row in page.rows], cursor=page.cursor, complete=page.whole)


@get("/v1/dead-letters/groups", operation_id="groupDeadLetters", summary="What is alike", responses=described.LANES)
async def groups(request: Http) -> GroupsView:
    """Group letters by fingerprint, with the same filters as the list."""
    with of_letters():
        found = await parts_of(request).letters.groups(asked(request.query_params, request))
    return GroupsView(groups=[_group(one) for one in found])


@get("/v1/dead-letters/{letter:str}", operation_id="showDeadLetter", summary="Look at one", responses=described.LANE)
async def show(request: Http, letter: FromPath[str]) -> LetterRecord:
    """Look at one whole; `?open=true` also opens what is sealed, for Operators who may change things, and is noted."""
    letters, caller = parts_of(request).letters, auth.caller_of(request)
    with of_letters():
        shown = await letters.show(letter)
        if not caller.sees(shown.record.identity.agent_id):
            raise Nowhere("", f"there is no dead letter {letter[:64]}")
        if request.query_params.get("open") != "true":
            return _record(shown)
        if not (caller.sees_all and caller.may_change):
            raise ProblemError(auth.needs_role(f'"{caller.agent}" may not open what is sealed'))
        return _record(shown, await letters.open(letter, by=caller.agent))


@post(
    "/v1/dead-letters/{letter:str}/resolve",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="resolveDeadLetter",
    summary="Say whether it ran",
    responses=described.DECIDED,
)
async def resolve(request: Http, letter: FromPath[str]) -> LetterRecord:
    """`done` ends the letter; `not_done`, where that was unknown, lets it be replayed."""
    parts, by = parts_of(request), auth.caller_of(request).agent
    body = await reading.body_as(request, parts.max_body_bytes, ResolveBody)
    with of_letters():
        return _record(await parts.letters.resolve(letter, done=body.outcome == "done", by=by, reason=body.reason))


@post(
    "/v1/dead-letters/{letter:str}/discard",
    guards=[auth.may_operate],
    status_code=200,
    operation_id="discardDeadLetter",
    summary="Let it be",
    responses=described.DECIDED,
)
async def discard(request: Http, letter: FromPath[str]) -> LetterRecord:
    """Nothing is to be done about it any more."""
    parts, by = parts_of(request), auth.caller_of(request).agent
    body = await reading.body_as(request, parts.max_body_bytes, DiscardBody)
    with of_letters():
        return _record(await parts.letters.discard(letter, by=by, reason=body.reason))


ROUTES = [ls, groups, show, resolve, discard]


@contextmanager
def of_letters(look: str = "sluice dlq ls") -> Iterator[None]:
    """Answer what letters will not do as a problem; `look` is the command that shows what there is."""
    try:
        with told(look):
            yield
    except Unlisted as error:
        raise ProblemError(plain(Kind.BAD_REQUEST, str(error), errors=[FieldError("?cursor", str(error))])) from None
    except UnsealError as error:
        raise ProblemError(plain(Kind.NOT_FOUND, str(error), action="sluice doctor")) from None


def asked(query: Mapping[str, str], request: Http) -> LetterFilter:
    """Read a filter; an Agent asks for its own letters whatever it says. Raises `Unfit`."""
    caller = auth.caller_of(request)
    named = {name: query[name] for name in _NAMES if query.get(name)}
    if not caller.sees_all:
        named["agent"] = caller.agent
    status = query.get("status")
    if status is not None and status not in set(LetterStatus):
        raise Unfit("?status", f"status is one of {', '.join(LetterStatus)}")
    return LetterFilter(
        **named,
        status=LetterStatus(status) if status else None,
        error_class=query.get("error"),
        since_us=_time("?since", query.get("since")),
        until_us=_time("?until", query.get("until")),
    )


def _time(where: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Unfit(where, f"{where[1:]} is an RFC 3339 time with a zone")
    return microseconds(at)


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 0 < int(text) <= MOST_PAGE):
        raise Unfit("?limit", f"limit is a whole number, 1 to {MOST_PAGE}")
    return int(text)


def _view(row: LetterRow) -> LetterView:
    return LetterView(
        letter=row.letter,
        status=row.status,
        tool=row.tool,
        connection=row.connection,
        op_class=row.op_class,
        agent=row.agent,
        session=row.session,
        call=row.call,
        error=row.error_class,
        message=row.message,
        effect=row.effect,
        fingerprint=row.fingerprint,
        action=row.action,
        first=stamp(moment(row.first_us)),
        last=stamp(moment(row.last_us)),
        root=row.root,
        parent=row.parent,
        generation=row.generation,
        decided_by=row.decided_by,
        reason=row.reason,
        replay=row.replay,
    )


def _group(one: LetterGroup) -> GroupView:
    return GroupView(
        fingerprint=one.fingerprint,
        letters=one.letters,
        open=one.open,
        effects=one.effects,
        error=one.error_class,
        tool=one.tool,
        message=one.message,
        first=stamp(moment(one.first_us)),
        last=stamp(moment(one.last_us)),
        newest=one.newest,
    )


def _record(shown: Shown, opened: dict[str, Any] | None = None) -> LetterRecord:
    record, state, became = shown.record, shown.state, shown.became
    status = became.status if became else LetterStatus.CLOSED
    told = state or became
    return LetterRecord(
        letter=record.identity.dl_id,
        status=state.status if state else status,
        effect=told.effect if told else record.effect.state,
        decided_by=told.by if told else None,
        reason=became.reason if became else None,
        replay=told.replay if told else None,
        record=record,
        opened=opened,
    )
