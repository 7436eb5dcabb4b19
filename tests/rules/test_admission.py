"""May an event become a call? Every no has its class, its words and its pointer; every yes says when it must have started."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.declared import Agent, Limit, Use
from gateway.policy.admission import Admit, Incoming, Refuse, admit
from schemas.effect import OperationClass
from schemas.failure import Failure
from schemas.moment import microseconds, moment, stamp
from schemas.tool_call import Origin, Request
from tests.flows.stage import CREATE, catalog

NOW = datetime(2026, 11, 20, 9, 0, 0, 123_457, tzinfo=UTC)
DAY_S = 86_400.0
CATALOG = catalog()
law = settings(max_examples=50, deadline=None)


def incoming(tool: object = CREATE, arguments: object = None, **data: Any) -> Incoming:
    fields = {"tool": tool, "arguments": {"email": "a@b.c"} if arguments is None else arguments, **data}
    return Incoming(
        call="01JC",
        data=fields,
        agent="research-7",
        request=Request(source="agent/research-7", id="e-1"),
        key="the default key",
        traceparent=None,
        origin=Origin(engine="http"),
        now=NOW,
    )


def judged(tool: object = CREATE, arguments: object = None, **data: Any) -> Admit | Refuse:
    return admit(incoming(tool, arguments, **data), CATALOG, deadline_s=DAY_S)


def admitted(tool: object = CREATE, arguments: object = None, **data: Any) -> Admit:
    verdict = judged(tool, arguments, **data)
    assert isinstance(verdict, Admit), verdict
    return verdict


def refused(verdict: Admit | Refuse) -> Refuse:
    assert isinstance(verdict, Refuse), verdict
    assert verdict.message
    return verdict


def test_a_call_holds_what_was_asked_and_what_the_operation_promises() -> None:
    found = admitted(session="run-42", priority="batch", confidence=0.5, reservation="r1", idempotency_key="k1")
    call = found.call
    assert (call.id, call.tool, call.connector, call.connection) == ("01JC", CREATE, "crm", None)
    assert (call.op_class, call.timeout_us) == (OperationClass.KEYED, 5_000_000)
    assert (call.session, call.priority, call.confidence, call.reservation) == ("run-42", "batch", 0.5, "r1")
    assert (call.key, call.arguments, call.agent) == ("k1", {"email": "a@b.c"}, "research-7")
    assert found.operation is CATALOG.operation(CREATE)


def test_without_a_deadline_the_usual_one_applies() -> None:
    call = admitted().call
    assert call.accepted_us == microseconds(NOW)
    assert call.deadline_us - call.accepted_us == int(DAY_S * 1_000_000)


@pytest.mark.parametrize(
    ("deadline", "late"),
    [
        ("2026-11-20T09:00:00.123457Z", True),
        ("2026-11-20T09:00:00.123458Z", False),
        ("2026-11-20T10:00:00.123457+01:00", True),
        ("2026-11-20T10:00:00.123458+01:00", False),
        ("1969-12-31T23:59:59Z", True),
    ],
)
def test_a_deadline_that_is_over_makes_a_call_late_in_every_zone(deadline: str, late: bool) -> None:  # noqa: FBT001
    assert admitted(deadline=deadline).late is late


@law
@example(datetime(2143, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
@given(st.datetimes(datetime(1900, 1, 2), datetime(2199, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - zone is drawn
def test_no_moment_changes_on_its_way_through_microseconds(when: datetime) -> None:
    assert admitted(deadline=stamp(when)).call.deadline_us == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


@pytest.mark.parametrize(
    "deadline",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:58Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_the_ends_of_the_calendar_are_judged_and_not_fallen_over(deadline: str) -> None:
    verdict = judged(deadline=deadline)
    if isinstance(verdict, Admit):
        assert moment(verdict.call.deadline_us).year in {1, 9999}
    else:
        assert verdict.failure is Failure.INGEST_MALFORMED


@pytest.mark.parametrize("deadline", ["", "tomorrow", "2026-11-20T09:05:00", "2026-13-20T09:05:00Z", "1763629500"])
def test_a_deadline_without_a_time_or_a_zone_is_malformed(deadline: str) -> None:
    verdict = refused(judged(deadline=deadline))
    assert verdict.failure is Failure.INGEST_MALFORMED
    assert [error["pointer"] for error in verdict.errors] == ["/data/deadline"]


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"tool": ""}, "/data/tool"),
        ({"tool": "x" * 513}, "/data/tool"),
        ({"session": 7}, "/data/session"),
        ({"idempotency_key": ""}, "/data/idempotency_key"),
        ({"priority": "urgent"}, "/data/priority"),
        ({"confidence": 1.5}, "/data/confidence"),
        ({"confidence": "high"}, "/data/confidence"),
        ({"deadline": 1763629500}, "/data/deadline"),
        ({"connection": ["a"]}, "/data/connection"),
        ({"colour": "red"}, "/data"),
    ],
)
def test_a_field_of_the_wrong_shape_is_pointed_at(data: dict[str, Any], pointer: str) -> None:
    verdict = refused(judged(**data))
    assert verdict.failure is Failure.INGEST_MALFORMED
    assert [error["pointer"] for error in verdict.errors] == [pointer]


def test_every_wrong_argument_is_pointed_at() -> None:
    verdict = refused(judged(CREATE, {"email": 7}))
    assert verdict.failure is Failure.INGEST_ARGUMENTS
    assert [error["pointer"] for error in verdict.errors] == ["/data/arguments/email"]
    assert refused(judged(CREATE, {})).errors[0]["pointer"] == "/data/arguments"


TOKENS = Limit(name="tokens", per="connector", kind="strict", most=8_000, window_us=60_000_000, text="8000/min")
FRUGAL = Use(limit=TOKENS, cost=500, estimate="/ask/max_tokens", actual="/usage/total_tokens")


def paced(arguments: dict[str, Any], *uses: Use) -> Admit | Refuse:
    operations = {CREATE: replace(CATALOG.operations[CREATE], uses=uses)}
    return admit(incoming(CREATE, arguments), replace(CATALOG, operations=operations), deadline_s=DAY_S)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"max_tokens": 7_500}, None),
        ({"max_tokens": 7_499.5}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": 7_501}, "it costs 8001 of limit tokens, which holds 8000/min"),
        ({"max_tokens": "many"}, "the estimate of its cost for limit tokens must be a number, 0 or more"),
        ({}, "the estimate of its cost for limit tokens is missing"),
    ],
)
def test_what_no_limit_can_ever_let_pass_is_refused_at_once(ask: dict[str, Any], message: str | None) -> None:
    verdict = paced({"email": "a@b.c", "ask": ask}, FRUGAL)
    if message is None:
        assert isinstance(verdict, Admit)
    else:
        assert refused(verdict).failure is Failure.INGEST_ARGUMENTS
        assert refused(verdict).errors == [{"pointer": "/data/arguments/ask/max_tokens", "message": message}]
        assert message in refused(verdict).message


def test_what_does_not_fit_the_schema_is_told_before_what_it_costs() -> None:
    assert [error["pointer"] for error in refused(paced({}, FRUGAL)).errors] == ["/data/arguments"]
    twice = refused(paced({"email": "a"}, FRUGAL, replace(FRUGAL, estimate="/n")))
    assert [error["pointer"] for error in twice.errors] == ["/data/arguments/ask/max_tokens", "/data/arguments/n"]


def test_an_unknown_tool_is_refused_with_the_nearest_name() -> None:
    verdict = refused(judged("crm.contacts.creat"))
    assert verdict.failure is Failure.INGEST_UNKNOWN_TOOL
    assert CREATE in verdict.message


@pytest.mark.parametrize(
    ("connection", "failure"),
    [
        (None, Failure.INGEST_UNKNOWN_CONNECTION),  # two, and none is the default
        ("other", Failure.INGEST_UNKNOWN_CONNECTION),
        ("spare", Failure.TOKEN_CONFIG),
    ],
)
def test_a_connection_must_be_known_and_have_its_secrets(connection: str | None, failure: Failure) -> None:
    assert refused(judged("bank.pay", {}, connection=connection)).failure is failure


def test_the_connection_that_is_named_is_used() -> None:
    assert admitted("bank.pay", {}, connection="main").call.connection == "main"


@pytest.mark.parametrize(
    ("allow", "tool", "failure"),
    [
        (("crm.contacts.*",), CREATE, None),
        (("crm.notes.*",), CREATE, Failure.INGEST_SCOPE),
        ((), CREATE, Failure.INGEST_SCOPE),
        (("crm.contacts.*",), "crm.contacts.creat", Failure.INGEST_UNKNOWN_TOOL),
    ],
)
def test_an_agent_may_call_what_its_scope_covers(allow: tuple[str, ...], tool: str, failure: Failure | None) -> None:
    guarded = replace(CATALOG, agents={"research-7": Agent(name="research-7", allow=allow)})
    verdict = admit(incoming(tool), guarded, deadline_s=DAY_S)
    assert (verdict.failure if isinstance(verdict, Refuse) else None) is failure


def test_an_agent_out_of_scope_learns_nothing_about_arguments_or_connections() -> None:
    guarded = replace(CATALOG, agents={"other": Agent(name="other", allow=("*",))})
    verdict = refused(admit(incoming("bank.pay", {"wrong": 1}, connection="other"), guarded, deadline_s=DAY_S))
    assert (verdict.failure, verdict.errors) == (Failure.INGEST_SCOPE, [])


jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("connection", "session", "idempotency_key", "deadline", "priority", "confidence", "reservation", "extra")


@law
@given(
    st.sampled_from([*CATALOG.operations, "no.such"]) | st.text(max_size=8),
    st.dictionaries(st.sampled_from(["email", "id", "x"]), jsons),
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, jsons)),
)
def test_whatever_the_data_says_it_is_a_call_or_a_refusal(
    tool: str, arguments: dict[str, Any], data: dict[str, Any]
) -> None:
    verdict = judged(tool, arguments, **data)
    if isinstance(verdict, Refuse):
        assert verdict.message
        assert all(error["pointer"].startswith("/data") for error in verdict.errors)
