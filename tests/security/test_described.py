"""The running API against its own document: whatever is sent, no answer is a 5xx, and each is one that the document describes.

Schemathesis makes the requests, right ones and wrong ones; half of the names in them are of things that are there. More of them:
`SLUICE_EXAMPLES=500 ./dev test tests/security/test_described.py`.
"""

import os
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from gateway.entrypoints import api
from tests.security.estate import CREATE, OPERATOR, OURS, Estate
from tests.served import bearer

pytestmark = pytest.mark.wire

EXAMPLES = int(os.environ.get("SLUICE_EXAMPLES", "12"))
WITHIN_S = 15.0
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)
ENDLESS = {"followCall"}
"""Streams as long as the call lives: asked for as JSON here."""


def described() -> dict[str, Any]:
    """Return the document without a gateway: which operations there are is known before one runs."""
    parts: Any = SimpleNamespace(max_body_bytes=1 << 20, catalog=lambda: SimpleNamespace(agents={"a": 1}, operators={}))
    with TestClient(api.build(parts)) as client:
        return dict(client.get("/openapi.json").json())


SCHEMA = schemathesis.openapi.from_dict(described())
OPERATIONS = {
    one.ok().definition.raw["operationId"]: one.ok() for one in SCHEMA.get_all_operations() if isinstance(one, Ok)
}


def known(case: Any, names: dict[str, str], use: frozenset[str]) -> None:
    """Put names of things that are there where the dice say so."""
    for name in set(case.path_parameters or {}) & use & set(names):
        case.path_parameters[name] = names[name]
    if isinstance(case.body, dict) and "tool" in use and "tool" in case.body:
        case.body["tool"] = CREATE


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_document_describes(operation: str, shared: Estate) -> None:
    made = OPERATIONS[operation]
    names = st.sets(st.sampled_from(sorted(shared.names))).map(frozenset)
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    with requests.Session() as session:
        session.trust_env = False

        @given(
            case=st.one_of([made.as_strategy(generation_mode=mode) for mode in modes]),
            use=names,
            who=st.sampled_from([OPERATOR, OPERATOR, OURS]),
        )
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any, use: frozenset[str], who: str) -> None:
            known(case, shared.names, use)
            headers = bearer(who) | ({"Accept": "application/json"} if operation in ENDLESS else {})
            answer = case.call(base_url=shared.ground.url, session=session, headers=headers, timeout=WITHIN_S)
            case.validate_response(answer, checks=CHECKS)

        ask()


def test_the_gateway_is_well_after_all_that(shared: Estate) -> None:
    assert shared.ask(None, "GET", "/readyz").status_code == 200
    log = shared.ground.log.read_text(encoding="utf-8")
    assert "api.broken" not in log
    assert "Traceback" not in log
