"""The API of a stage, as agents and operators ask it, and who they are."""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.matrix.load import AGENTS, Call
from tests.faults.matrix.stage import PATIENCE_S, Stage

OPERATORS = {
    "chief": ("operator", "approver"),
    "deputy": ("operator", "approver"),
    "second": ("approver",),
    "guest": ("viewer",),
}
OPEN_WITHIN_S = 60.0
_HEAD = {"apiVersion": "sluice/v1"}


def people(agents: Sequence[str] = AGENTS) -> tuple[Mapping[str, Any], ...]:
    """Declare who asks: agents that may call everything, and operators; `keys` goes beside it."""
    declared = [("Agent", name, {"allow": ["crm.*"]}) for name in agents]
    declared += [("Operator", name, {"roles": list(roles)}) for name, roles in OPERATORS.items()]
    return tuple(
        {**_HEAD, "kind": kind, "metadata": {"name": name}, "key": f"${{env:KEY_{name.upper()}}}", **may}
        for kind, name, may in declared
    )


def keys(agents: Sequence[str] = AGENTS) -> dict[str, str]:
    """Return the environment in which their keys stand."""
    return {f"KEY_{name.upper()}": _key(name) for name in (*agents, *OPERATORS)}


def _key(name: str) -> str:
    return f"key-of-{name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    body: Any

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


class Desk:
    """Asks one API; each question has a connection of its own."""

    def __init__(self, stage: Stage) -> None:
        """Start one; the first question waits until it answers, so that others may start meanwhile."""
        self.stage = stage
        self._port = int(stage.workers.environment["SLUICE_PORT"])
        self.process = stage.workers.start_role("api")

    def ask(self, method: str, path: str, body: Any = None, *, who: str = "chief", key: str = "") -> Answer:
        """Ask as one of the people; with an idempotency key, under that."""
        headers = {"Authorization": f"Bearer {_key(who)}", **({"Idempotency-Key": key} if key else {})}
        give_up = time.monotonic() + OPEN_WITHIN_S
        while True:
            try:
                return self._ask(method, path, body, headers)
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            read = answer.read()
        finally:
            connection.close()
        return Answer(answer.status, json.loads(read) if read else None)

    def publish(self, one: Call) -> str:
        """Publish a call as its agent, with its id as key; return the id it has from then on."""
        answer = self.ask("POST", "/v1/calls", json.loads(one.raw)["data"], who=one.agent, key=one.id)
        self.stage.demand(answer.status in {200, 202}, f"{one.id} is not taken: {answer.status}", str(answer.body))
        self.stage.calls[one.id] = one
        self.stage.published += 1
        self.stage.elsewhere += 1
        return str(answer["call"])

    def replay(self, who: str = "chief", **how: Any) -> dict[str, Any]:
        """Plan a replay of all open letters, or of what `how` says, and start it."""
        answer = self.ask("POST", "/v1/replays", {"filter": {}, "share": 1.0, "stop_after": 10_000, **how}, who=who)
        self.stage.demand(answer.status == http.client.CREATED, f"no replay: {answer.status}", str(answer.body))
        return dict(answer.body)

    def over(self, replay: Mapping[str, Any], *, within_s: float = 2 * PATIENCE_S) -> dict[str, Any]:
        """Wait until a replay runs no more; what it took in counts as published."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.ask("GET", f"/v1/replays/{replay['replay']}").body)
            return found["state"] not in {"running", "planned"}

        self.until(ended, f"the replay ends {found}", within_s=within_s)
        self.stage.published += taken(found)
        # Who takes the lead of a replay over asks again for what was answered before, and is told that it is a duplicate.
        self.stage.elsewhere += taken(found)
        self.stage.unsure += taken(found)
        return found

    def until(self, holds: Callable[[], object], what: str, *, within_s: float = PATIENCE_S) -> bool:
        """Wait with a pause that an API can bear."""

        def rested() -> object:
            time.sleep(0.1)
            return holds()

        return self.stage.until(rested, what, within_s=within_s)


def taken(replay: Mapping[str, Any]) -> int:
    """Count the letters that a replay has made calls of."""
    progress = replay["progress"]
    return int(progress["replaying"] + progress["replayed_ok"] + progress["replayed_failed"])
