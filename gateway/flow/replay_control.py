"""Replays from above: plan one from a selection, look at it, start, pause, resume and cancel it. Sends nothing itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from dlq.difference import Difference
from dlq.keys import UnsealError
from dlq.redaction import Sealer
from dlq.replay import Action
from gateway.flow.refusals import Conflict, Nowhere, Unfit
from gateway.flow.replay_cases import Cases, Steps, Wish
from gateway.policy.replay_steps import canary_of, failures
from gateway.ports import Ambient, LaneState
from gateway.ports.letters import LetterFilter, LetterIndex
from gateway.ports.replays import Move, ReplayStore
from schemas.codec import encode
from schemas.dead_letter import Sealed
from schemas.moment import microseconds
from schemas.replay import Progress, ReplayItem, ReplayPlan, ReplayState

log = structlog.get_logger()

MOST_LETTERS = 10_000
"""Letters of one replay."""

MOST_REASON = 500
PAGE = 500
TOGETHER = 32
"""Letters that are looked at together."""

PATCH = "replay.patch"

_S = ReplayState
ENDED = frozenset({_S.CANCELLED, _S.DONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants to replay, and how."""

    ids: tuple[str, ...] | None = None
    wanted: LetterFilter | None = None
    text: str = ""
    """The selection as it was asked for, as JSON."""
    canary: int | None = None
    share: float = 0.5
    stop_after: int = 3
    deadline: str | None = None
    patch: Steps | None = None
    override: str | None = None
    """Why letters that were replayed often enough are replayed once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay with all its letters."""

    plan: ReplayPlan
    items: list[ReplayItem]
    progress: dict[str, Progress]
    lanes: list[LaneState]
    """Of the calls that it makes, as they are now."""
    changes: list[Difference]
    """What its patch changes, in clear: not for everybody's eyes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What replay control works with."""

    store: ReplayStore
    index: LetterIndex
    cases: Cases
    seal: Sealer
    survey: Callable[[Sequence[str]], Awaitable[tuple[int, list[LaneState]]]]
    """Looks at lanes."""
    ambient: Ambient


class ReplayControl:
    """The use-case; one instance a process."""

    def __init__(self, parts: Parts) -> None:
        """See `Parts`."""
        self._parts = parts

    async def make(self, asked: Asked, *, by: str) -> Replay:
        """Select letters, judge each, and keep the plan; no call is made. Raises `Unfit` and `Nowhere`."""
        _check(asked)
        letters = await self._selected(asked)
        replay = self._parts.ambient.new_id()
        wish = Wish(replay=replay, by=by, deadline=asked.deadline, patch=asked.patch, override=asked.override)
        items: list[ReplayItem] = []
        for at in range(0, len(letters), TOGETHER):
            some = letters[at : at + TOGETHER]
            looked = await asyncio.gather(*(self._parts.cases.look(letter, wish) for letter in some))
            if asked.ids is not None and None in looked:
                raise Nowhere("/ids", f"there is no dead letter {some[looked.index(None)][:64]}")
            items += [one.item() for one in looked if one is not None]
        plan = self._plan(replay, asked, items, by)
        await self._parts.store.save(plan, items)
        return await self._whole(plan)

    async def ls(self) -> list[tuple[ReplayPlan, dict[str, Progress]]]:
        """List what is kept, newest first."""
        store = self._parts.store
        return [(plan, await store.progress(plan.id)) for plan in await store.plans()]

    async def show(self, replay: str) -> Replay:
        """Look at one; raises `Nowhere`."""
        plan = await self._parts.store.plan(replay)
        if plan is None:
            raise Nowhere("", f"there is no replay {replay[:64]}")
        return await self._whole(plan)

    async def start(self, replay: str, *, by: str) -> Replay:
        """Let it run; raises `Nowhere` and `Conflict`."""
        return await self._moved(replay, Move(given=frozenset({_S.PLANNED}), to=_S.RUNNING, by=by))

    async def pause(self, replay: str, *, by: str, why: str = "") -> Replay:
        """Send no more for now; what is in its lane goes on. Raises `Nowhere`, `Unfit` and `Conflict`."""
        return await self._moved(replay, Move(given=frozenset({_S.RUNNING}), to=_S.PAUSED, by=by, why=why))

    async def resume(self, replay: str, *, by: str, why: str = "") -> Replay:
        """Go on; failures so far are forgiven. Raises `Nowhere`, `Unfit` and `Conflict`."""
        forgiven = failures(await self._parts.store.progress(replay))
        given = frozenset({_S.PAUSED, _S.STOPPED})
        return await self._moved(replay, Move(given=given, to=_S.RUNNING, by=by, why=why, forgiven=forgiven))

    async def cancel(self, replay: str, *, by: str, why: str = "") -> Replay:
        """Send no more for good; what is in its lane goes on. Raises `Nowhere`, `Unfit` and `Conflict`."""
        return await self._moved(replay, Move(given=frozenset(_S) - ENDED, to=_S.CANCELLED, by=by, why=why))

    async def _moved(self, replay: str, move: Move) -> Replay:
        if len(move.why) > MOST_REASON:
            raise Unfit("/reason", f"a reason has {MOST_REASON} characters at most")
        answer = await self._parts.store.move(replay, move)
        if answer is None:
            raise Nowhere("", f"there is no replay {replay[:64]}")
        moved, plan = answer
        if not moved and plan.state is not move.to:
            raise Conflict(f"the replay is {plan.state}")
        if moved:
            log.warning("replay.moved", replay=replay, state=move.to, who=move.by, reason=move.why)
        return await self._whole(plan)

    async def _selected(self, asked: Asked) -> list[str]:
        """Return the ids, those of a filter oldest first: what failed first is asked for first."""
        if asked.ids is not None:
            return list(dict.fromkeys(asked.ids))
        assert asked.wanted is not None  # noqa: S101 - checked before
        found: list[str] = []
        cursor = None
        while len(found) <= MOST_LETTERS:
            page = await self._parts.index.find(asked.wanted, cursor=cursor, limit=PAGE)
            found += [row.letter for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                return found[::-1]
        raise Unfit("/filter", f"more than {MOST_LETTERS} letters fit; narrow the filter")

    def _plan(self, replay: str, asked: Asked, items: list[ReplayItem], by: str) -> ReplayPlan:
        sealed = None
        if asked.patch is not None:
            sealed = encode(self._parts.seal(replay, PATCH, encode(asked.patch))).decode()
        chosen = sum(item.action != Action.EXCLUDED for item in items)
        return ReplayPlan(
            id=replay,
            state=_S.PLANNED,
            by=by,
            created_us=microseconds(self._parts.ambient.now()),
            selection=asked.text,
            canary=canary_of(chosen) if asked.canary is None else min(asked.canary, chosen),
            share=asked.share,
            stop_after=asked.stop_after,
            deadline=asked.deadline,
            patch=sealed,
            override=asked.override,
        )

    async def _whole(self, plan: ReplayPlan) -> Replay:
        items = await self._parts.store.items(plan.id)
        progress = await self._parts.store.progress(plan.id)
        lanes = sorted({item.lane for item in items if item.lane is not None})[:PAGE]
        states = (await self._parts.survey(lanes))[1] if lanes else []
        changes = await self._changes(plan, items)
        return Replay(plan=plan, items=items, progress=progress, lanes=states, changes=changes)

    async def _changes(self, plan: ReplayPlan, items: list[ReplayItem]) -> list[Difference]:
        try:
            steps = opened_patch(plan, self._parts.seal)
        except UnsealError:
            return []
        return await self._parts.cases.changes(items[0].letter, steps) if steps is not None and items else []


def opened_patch(plan: ReplayPlan, seal: Sealer) -> Steps | None:
    """Return the patch of a plan in clear."""
    if plan.patch is None:
        return None
    sealed = Sealed(**json.loads(plan.patch))
    steps: Steps = json.loads(seal.unseal(sealed, plan.id, PATCH))
    return steps


def _check(asked: Asked) -> None:
    if (asked.ids is None) == (asked.wanted is None):
        raise Unfit("", 'name either "ids" or a "filter"')
    if asked.ids is not None and not 0 < len(asked.ids) <= MOST_LETTERS:
        raise Unfit("/ids", f"1 to {MOST_LETTERS} ids")
    if asked.patch is not None and (asked.ids is None or len(asked.ids) != 1):
        raise Unfit("/patch", "one letter at a time is changed: name its id")
    if asked.override is not None and not 0 < len(asked.override.strip()) <= MOST_REASON:
        raise Unfit("/override", f"a reason has 1 to {MOST_REASON} characters")
    if asked.canary is not None and asked.canary < 0:
        raise Unfit("/canary", "a canary is 0 or more letters")
    if not 0 < asked.share <= 1:
        raise Unfit("/share", "a share lies above 0 and is 1 at most")
    if asked.stop_after < 0:
        raise Unfit("/stop_after", "it is 0 or more")
