"""What the HTTP door says when it says no: one row per failure, pointers into the body that was sent, keys that open."""

import pytest

from connectors.catalog import Agent, Catalog, Operator
from connectors.secret import Secret
from gateway.entrypoints.api.auth import Caller, identify
from gateway.entrypoints.api.problems import STATUS, Kind, ProblemError, headers, plain, refused
from gateway.entrypoints.api.reading import preferred_wait, read
from schemas.codec import encode
from schemas.effect import Effect
from schemas.failure import Failure
from schemas.tool_call import ToolCallData

AGENT = Agent(name="research-7", key=Secret("agent-key"), allow=("crm.*",))
VIEWER = Operator(name="day-shift", key=Secret("viewer-key"), roles=("viewer",))
OPERATOR = Operator(name="night-shift", key=Secret("operator-key"), roles=("viewer", "operator"))
DECLARED = Catalog(agents={"research-7": AGENT}, operators={"day-shift": VIEWER, "night-shift": OPERATOR})


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_has_a_complete_problem(failure: Failure) -> None:
    problem = refused(failure, "something", tool="crm.contacts.create")
    assert 400 <= problem.status < 600
    assert problem.type.endswith(failure)
    assert problem.failure is failure
    assert problem.title
    assert problem.action
    assert "{" not in problem.action
    assert problem.fingerprint.startswith("v1:")


@pytest.mark.parametrize("kind", Kind)
def test_every_other_problem_names_a_next_step_too(kind: Kind) -> None:
    assert plain(kind, "something").action
    assert plain(kind, "something", action="sluice calls ls").action == "sluice calls ls"


def test_the_tool_stands_in_the_command_that_shows_its_input() -> None:
    told = refused(Failure.INGEST_ARGUMENTS, "no", tool="crm.contacts.create").action
    assert told.endswith("sluice connectors explain crm.contacts.create")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tool": "a.b", "arguments": {}, "conection": "x"}, "did you mean `connection`?"),
        ({"tool": "a.b", "arguments": {}, "zzz": 1}, "there are tool, arguments"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_was_meant_or_all_there_are(
    given: dict[str, object], told: str
) -> None:
    with pytest.raises(ProblemError) as raised:
        read(encode(given), 1000, ToolCallData)
    problem = raised.value.problem
    assert told in problem.detail
    assert told in problem.errors[0].message
    assert "new key" not in problem.action


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure.DECODE_JSON, 400),
        (Failure.DECODE_ENCODING, 400),
        (Failure.DECODE_DEPTH, 400),
        (Failure.INGEST_AUTH, 401),
        (Failure.INGEST_SCOPE, 403),
        (Failure.INGEST_DUPLICATE_CONFLICT, 409),
        (Failure.INGEST_OVERSIZE, 413),
        (Failure.INGEST_ARGUMENTS, 422),
        (Failure.INGEST_UNKNOWN_TOOL, 422),
        (Failure.TOKEN_CONFIG, 422),
        (Failure.ADMISSION_DEADLINE, 422),
        (Failure.ADMISSION_QUEUE_FULL, 429),
    ],
)
def test_the_status_of_a_refusal_is_the_documented_one(failure: Failure, status: int) -> None:
    assert STATUS[failure] == status
    assert refused(failure, "x").effect is Effect.NOT_EXECUTED


def test_a_problem_carries_the_documented_members_under_their_names() -> None:
    body = encode(plain(Kind.NOT_FOUND, "no call"))
    for member in ("type", "title", "status", "detail", "class", "effect", "retryable", "fingerprint", "errors"):
        assert f'"{member}":'.encode() in body


def test_pointers_lead_into_the_body_that_was_sent() -> None:
    errors = [{"pointer": "/data/arguments/email", "message": "is too short"}]
    problem = refused(Failure.INGEST_ARGUMENTS, "no fit: /data/arguments/email: is too short", errors=errors)
    assert problem.errors[0].pointer == "/arguments/email"
    assert problem.detail == "no fit: /arguments/email: is too short"


def test_equal_refusals_share_a_fingerprint_and_their_particulars_do_not_matter() -> None:
    one = refused(Failure.ADMISSION_QUEUE_FULL, "100 calls wait", tool="crm.echo")
    other = refused(Failure.ADMISSION_QUEUE_FULL, "2000 calls wait", tool="crm.echo")
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != refused(Failure.ADMISSION_QUEUE_FULL, "100 calls wait", tool="crm.big").fingerprint


def test_who_may_come_back_is_told_when() -> None:
    assert "Retry-After" in headers(refused(Failure.ADMISSION_QUEUE_FULL, "full"))
    assert "Retry-After" in headers(plain(Kind.NOT_READY, "away"))
    assert "WWW-Authenticate" in headers(refused(Failure.INGEST_AUTH, "who?"))
    assert headers(refused(Failure.INGEST_ARGUMENTS, "no")) == {}


def test_nobody_needs_a_key_where_nobody_is_declared() -> None:
    assert identify(Catalog(), None) == Caller(agent="anonymous", sees_all=True, may_change=True, may_approve=True)


@pytest.mark.parametrize(
    ("authorization", "caller"),
    [
        ("Bearer agent-key", Caller(agent="research-7", sees_all=False, may_change=True)),
        ("bearer  agent-key ", Caller(agent="research-7", sees_all=False, may_change=True)),
        ("Bearer viewer-key", Caller(agent="day-shift", sees_all=True, may_change=False)),
        ("Bearer operator-key", Caller(agent="night-shift", sees_all=True, may_change=True)),
    ],
)
def test_a_key_says_who_is_asking(authorization: str, caller: Caller) -> None:
    assert identify(DECLARED, authorization) == caller


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic agent-key", "agent-key", "Bearer agent-ke"]
)
def test_without_a_declared_key_nobody_comes_in(authorization: str | None) -> None:
    with pytest.raises(ProblemError) as refusal:
        identify(DECLARED, authorization)
    assert refusal.value.problem.status == 401


def test_an_agent_whose_key_is_missing_is_nobody_over_http() -> None:
    with pytest.raises(ProblemError):
        identify(Catalog(agents={"mute": Agent(name="mute")}), "Bearer None")


def test_an_agent_sees_its_own_calls_and_an_operator_all() -> None:
    assert identify(DECLARED, "Bearer agent-key").sees("research-7")
    assert not identify(DECLARED, "Bearer agent-key").sees("research-8")
    assert identify(DECLARED, "Bearer viewer-key").sees("research-8")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], None),
        (["wait=10"], 10),
        (["respond-async, wait=5"], 5),
        (["respond-async", "Wait = 7"], 7),
        (['wait="3"'], 3),
        (["wait=999"], 60),
        (["wait=0"], 0),
        (["wait=-1"], None),
        (["wait=soon"], None),
        (["await=5"], None),
    ],
)
def test_a_preference_is_a_wish_and_never_an_error(prefer: list[str], seconds: int | None) -> None:
    assert preferred_wait(prefer) == seconds
