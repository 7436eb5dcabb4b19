"""Replays over HTTP: a plan from a selection, which calls nothing; then start, pause, resume, cancel."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from litestar import Request, get, post
from litestar.params import FromPath

from gateway.entrypoints.api import auth, described, reading
from gateway.entrypoints.api.dead_letters import FIELDS, asked, of_letters
from gateway.entrypoints.api.parts import ApiParts, parts_of
from gateway.entrypoints.api.problems import ProblemError
from gateway.flow.refusals import Unfit
from gateway.flow.replay_control import Asked, Replay
from gateway.flow.replay_view import ReplayBrief, ReplayView, brief, view
from schemas.codec import encode

log = structlog.get_logger()

Http = Request[Any, Any, Any]

LOOK = "sluice replays ls"
"""Shows what there is to somebody who named what there is not."""


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters: `ids`, or a `filter` as of the list (of open letters, unless it says another status); and how."""

    ids: list[str] | None = None
    filter: dict[str, str] | None = None
    dry_run: bool = False
    """Only plan it; it is started later, by its id."""
    canary: int | None = None
    """Letters that go first and alone; a tenth, and five at least, when it is not said."""
    share: float = 0.5
    """Of the pace of each lane."""
    stop_after: int = 3
    """It stops when the same failure came again more often."""
    deadline: str | None = None
    """Latest start of its calls, RFC 3339."""
    patch: list[dict[str, Any]] | None = None
    """A JSON Patch (RFC 6902) of the arguments of one letter."""
    override: str | None = None
    """Why letters that were replayed as often as they may be are replayed once more."""


class SteerBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: str = ""


class ReplaysView(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first."""

    replays: list[ReplayBrief]


@post(
    "/v1/replays",
    guards=[auth.may_operate],
    status_code=201,
    operation_id="planReplay",
    summary="Plan a replay, and start it unless it is a dry run",
    responses=described.DECIDED,
)
async def make(request: Http) -> ReplayView:
    """Freeze the selection and say what is done with each letter; nothing is called for that."""
    parts, by = parts_of(request), auth.caller_of(request).agent
    body = await reading.body_as(request, parts.max_body_bytes, ReplayBody)
    with of_letters(LOOK):
        one = await parts.replays.make(_asked(body, request), by=by)
        if not body.dry_run:
            one = await parts.replays.start(one.plan.id, by=by)
    return _view(parts, one)


@get("/v1/replays", guards=[auth.may_see_all], operation_id="listReplays", summary="Replays", responses=described.LANES)
async def ls(request: Http) -> ReplaysView:
    """List replays, newest first."""
    return ReplaysView(replays=[brief(*one) for one in await parts_of(request).replays.ls()])


@get(
    "/v1/replays/{replay:str}",
    guards=[auth.may_see_all],
    operation_id="showReplay",
    summary="Look at one",
    responses=described.LANE,
)
async def show(request: Http, replay: FromPath[str]) -> ReplayView:
    """Look at a plan and at how far it is; `?open=true` shows what a patch changes in clear, to who may change things."""
    parts, caller = parts_of(request), auth.caller_of(request)
    opened = request.query_params.get("open") == "true"
    if opened and not caller.may_change:
        raise ProblemError(auth.needs_role(f'"{caller.agent}" may not open what is sealed'))
    with of_letters(LOOK):
        shown = await parts.replays.show(replay)
    if opened and shown.changes:
        log.warning("replay.opened", replay=shown.plan.id, who=caller.agent)
    return _view(parts, shown, opened=opened)


def _steering(verb: str, summary: str) -> Any:
    @post(
        f"/v1/replays/{{replay:str}}/{verb}",
        guards=[auth.may_operate],
        status_code=200,
        operation_id=f"{verb}Replay",
        summary=summary,
        responses=described.DECIDED,
    )
    async def steer(request: Http, replay: FromPath[str]) -> ReplayView:
        parts, by = parts_of(request), auth.caller_of(request).agent
        why = {"why": (await _body(request, parts)).reason} if verb != "start" else {}
        move: Callable[..., Awaitable[Replay]] = getattr(parts.replays, verb)
        with of_letters(LOOK):
            return _view(parts, await move(replay, by=by, **why))

    return steer


ROUTES = [
    make,
    ls,
    show,
    _steering("start", "Let it run"),
    _steering("pause", "Send no more for now"),
    _steering("resume", "Go on; failures so far are forgiven"),
    _steering("cancel", "Send no more for good"),
]


async def _body(request: Http, parts: ApiParts) -> SteerBody:
    if not await request.body():
        return SteerBody()
    return await reading.body_as(request, parts.max_body_bytes, SteerBody)


def _asked(body: ReplayBody, request: Http) -> Asked:
    chosen = {"ids": body.ids} if body.ids is not None else {"filter": body.filter}
    wanted = None
    if body.filter is not None:
        unknown = sorted(set(body.filter) - set(FIELDS))
        if unknown:
            raise Unfit("/filter", f"there is no filter {unknown[0][:40]!r}; there are {', '.join(sorted(FIELDS))}")
        wanted = asked({"status": "open", **body.filter}, request)
    return Asked(
        ids=None if body.ids is None else tuple(body.ids),
        wanted=wanted,
        text=encode(chosen).decode(),
        canary=body.canary,
        share=body.share,
        stop_after=body.stop_after,
        deadline=body.deadline,
        patch=body.patch,
        override=body.override,
    )


def _view(parts: ApiParts, one: Replay, *, opened: bool = False) -> ReplayView:
    return view(one, parts.catalog().operation, opened=opened)
