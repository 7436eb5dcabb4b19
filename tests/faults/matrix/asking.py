"""Asks the API of a stage over real HTTP, as an agent with patience does."""

import http
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.matrix.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status 0: no answer came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def ask(stage: Stage, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Ask once; a header's underscores are written as hyphens."""
    port = int(stage.workers.environment["SLUICE_PORT"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        raw = None if body is None else json.dumps(body)
        connection.request(method, path, raw, {"Content-Type": "application/json", **sent})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(status=answer.status, headers=told, body=answer.read())
    except (OSError, http.client.HTTPException):
        return Answer(status=0, headers={}, body=b"{}")
    finally:
        connection.close()


def open_api(stage: Stage) -> None:
    """Start an API and wait until it answers."""
    stage.workers.start_role("api")
    stage.until(lambda: ask(stage, "GET", "/livez").status == http.HTTPStatus.OK, "the API answers", within_s=30)
