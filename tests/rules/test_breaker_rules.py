"""What counts against a vendor, when that trips its breaker, for how long it is left alone, and which origin that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.breaking.breaker import Open
from connectors.breaking.breakers import key_of, origin_of, refused
from connectors.breaking.standing import Standing, State, exponent, open_time
from connectors.breaking.terms import BUCKETS, DEFAULT_TERMS, LONGEST_ASKED_S, LONGEST_OPEN_S
from connectors.breaking.verdict import VERDICTS, Verdict, asked_s, verdict_of
from connectors.breaking.window import Counts, Sums, Window, trips
from connectors.catalog import Catalog, Connection, Operation
from connectors.declared import Auth, Egress
from gateway.policy.origins import gates_by_breaker, keys_of
from schemas.effect import Effect, OperationClass
from schemas.failure import FACTS, Failure
from schemas.outcome import Outcome

OK, FAILED, NEUTRAL = Verdict.OK, Verdict.FAILED, Verdict.NEUTRAL
TERMS = DEFAULT_TERMS

ALIVE = {
    *{Failure(f"http.{name}") for name in ("3xx", "400", "404", "409", "422", "425", "refused", "4xx", "501")},
    *{Failure.RECEIVE_OVERSIZE, Failure.SCHEMA_BREAKING, Failure.SCHEMA_UNDECODABLE},
}
DOWN = {
    *{Failure(f"connect.{name}") for name in ("refused", "timeout", "tls")},
    *{Failure(f"receive.{name}") for name in ("timeout", "reset", "truncated", "garbage")},
    *{Failure(f"http.{name}") for name in ("408", "500", "502", "503", "504", "5xx", "unrecognised")},
    *{Failure.EGRESS_DNS, Failure.SEND_RESET},
}


# --- what counts


def test_every_failure_has_a_verdict_and_the_failures_are_those_of_the_table_of_failures() -> None:
    assert set(VERDICTS) == set(Failure)
    failed = {failure for failure, verdict in VERDICTS.items() if verdict is FAILED}
    assert failed == {failure for failure in Failure if FACTS[failure].trips_breaker} == DOWN


def test_who_answers_is_alive_and_what_was_not_asked_of_the_host_says_nothing() -> None:
    alive = {failure for failure, verdict in VERDICTS.items() if verdict is OK}
    assert alive == ALIVE
    for failure in (Failure.HTTP_TOO_MANY, Failure.HTTP_UNAUTHORIZED, Failure.HTTP_FORBIDDEN, Failure.CANCELLED):
        assert VERDICTS[failure] is NEUTRAL
    assert verdict_of(Outcome(effect=Effect.EXECUTED)) is OK


def test_only_a_host_that_failed_is_left_alone_for_as_long_as_it_asks() -> None:
    for failure, expected in ((Failure.HTTP_UNAVAILABLE, 30.0), (Failure.HTTP_TOO_MANY, 0.0), (None, 0.0)):
        assert asked_s(Outcome(effect=Effect.UNKNOWN, failure=failure, retry_after_s=30.0)) == expected


# --- the rule


@pytest.mark.parametrize(
    ("sums", "why"),
    [
        (Sums(9, 9, 9, 4, 0), None),
        (Sums(5, 5, 0, 5, 0), "5 failures in a row"),
        (Sums(10, 5, 0, 1, 5), "5 of 10 calls failed"),
        (Sums(10, 4, 0, 1, 6), None),
        (Sums(10, 0, 8, 0, 2), "8 of 10 calls took longer than 5 s"),
        (Sums(10, 0, 7, 0, 3), None),
        (Sums(0, 0, 0, 0, 0), None),
    ],
)
def test_a_rate_needs_some_calls_and_a_row_needs_none(sums: Sums, why: str | None) -> None:
    found = trips(sums, TERMS)
    assert found is None if why is None else found is not None and why in found


@given(
    st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.booleans()), max_size=60),
    st.floats(0, 100),
)
def test_a_window_holds_what_is_younger_than_itself_and_nothing_older(
    calls: list[tuple[float, bool, bool]], after: float
) -> None:
    window, now = Window(60.0), 0.0
    for now, failed, slow in sorted(calls):
        window.add(now, failed=failed, slow=slow)
    end = now + after
    width = 60.0 / BUCKETS
    inside = [one for one in calls if one[0] // width > end // width - BUCKETS]
    row = 0
    for _, failed, _ in sorted(calls):
        row = row + 1 if failed else 0
    sums = window.sums(end)
    assert sums[:3] == (len(inside), sum(one[1] for one in inside), sum(one[2] for one in inside))
    assert sums.row == row
    assert {one for one in calls if one[0] > end - 60.0 + width} <= set(inside) <= {o for o in calls if o[0] > end - 60}


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40))
def test_what_is_sent_and_answered_is_counted_once(steps: list[tuple[int, bool]]) -> None:
    """Two windows share through sums; each at last sees what one window would have seen."""
    windows, alone = [Window(60.0), Window(60.0)], Window(60.0)
    shared: dict[int, Counts] = {}
    for step, failed in steps:
        if step < 2:
            windows[step].add(5.0, failed=failed, slow=False)
            alone.add(5.0, failed=failed, slow=False)
        else:
            share(windows, shared)
    share(windows, shared)
    share(windows, shared)
    assert {window.sums(5.0)[:2] for window in windows} == {alone.sums(5.0)[:2]}


def share(windows: list[Window], shared: dict[int, Counts]) -> None:
    for window in windows:
        if window.pack():
            for age, counts in window.delta(5.0)[0].items():
                shared[age] = shared.get(age, Counts()).plus(counts)
    for window in windows:
        window.told(5.0, shared, row=0, successes=0)


# --- how long it is open


def test_the_open_time_doubles_up_to_its_cap_and_is_no_shorter_than_the_vendor_asks() -> None:
    assert [open_time(TERMS, opens, 1.0, 0.0) for opens in range(4)] == [5.0, 10.0, 20.0, 40.0]
    assert open_time(TERMS, 30, 1.2, 0.0) == open_time(TERMS, 5000, 0.9, 0.0) == LONGEST_OPEN_S
    assert open_time(TERMS, 0, 1.0, 90.0) == 90.0
    assert open_time(TERMS, 0, 1.0, 10**9) == LONGEST_ASKED_S
    assert open_time(TERMS, 3, 1.0, 1.0) == 40.0


@given(st.integers(0, 20), st.floats(0.8, 1.2))
def test_jitter_keeps_within_a_fifth(opens: int, jitter: float) -> None:
    plain = open_time(TERMS, opens, 1.0, 0.0)
    assert 0.8 * plain <= open_time(TERMS, opens, jitter, 0.0) <= min(LONGEST_OPEN_S, 1.2 * plain)


def test_each_window_in_health_takes_one_opening_away() -> None:
    well = Standing(opens=3, since=1000.0)
    assert [exponent(well, TERMS, 1000.0 + 60 * windows) for windows in range(5)] == [3, 2, 1, 0, 0]
    assert exponent(Standing(state=State.HALF_OPEN, opens=3, since=0.0), TERMS, 10_000.0) == 3


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://CRM.example.com/v2/", "https://crm.example.com"),
        ("https://crm.example.com:443", "https://crm.example.com"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080"),
        ("http://[::1]:80/x", "http://[::1]"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_a_call_that_is_not_let_through_has_spent_nothing_and_waits() -> None:
    outcome = refused(Open(200.0, "5 failures in a row"))
    assert (outcome.failure, outcome.effect, outcome.spends_attempt) == (
        Failure.BREAKER_OPEN,
        Effect.NOT_EXECUTED,
        False,
    )
    assert FACTS[Failure.BREAKER_OPEN].retryable
    assert "5 failures in a row" in outcome.message


# --- the gates before an origin


def operation(auth: str) -> Operation:
    return Operation(
        tool="crm.get",
        connector="crm",
        name="get",
        op_class=OperationClass.SAFE,
        method="GET",
        path="/",
        query={},
        headers={},
        base_url="https://crm.test",
        timeout_s=1.0,
        max_attempts=1,
        idempotency_header=None,
        idempotency_window_s=None,
        auth=Auth(type="none" if auth == "none" else "bearer"),
        egress=Egress(allow_hosts=("*",)),
        input_schema=None,
        output_schema=None,
        approval_required=False,
    )


HOME, AWAY = "crm|https://crm.test", "crm|https://eu.crm.test"


@pytest.mark.parametrize(
    ("auth", "connections", "gates"),
    [
        ("none", {}, {HOME: ("@crm",)}),
        ("bearer", {"a": None}, {HOME: ("@crm",)}),
        ("bearer", {"a": "https://eu.crm.test"}, {AWAY: ("@crm",)}),
        ("bearer", {"a": None, "b": "https://CRM.test:443/v2"}, {HOME: ("@crm",)}),
        ("bearer", {"a": None, "b": None, "c": "https://eu.crm.test"}, {HOME: ("@crm|a", "@crm|b"), AWAY: ("@crm|c",)}),
        (
            "none",
            {"a": "https://eu.crm.test", "b": "https://eu.crm.test"},
            {HOME: ("@crm|-",), AWAY: ("@crm|a", "@crm|b")},
        ),
        ("none", {"default": "https://eu.crm.test", "b": "https://eu.crm.test"}, {AWAY: ("@crm",)}),
    ],
)
def test_the_whole_connector_is_held_where_all_goes_to_one_origin_and_else_the_connections_that_go_there(
    auth: str, connections: dict[str, str | None], gates: dict[str, tuple[str, ...]]
) -> None:
    declared = {
        f"crm/{name}": Connection(name=name, connector="crm", base_url=url) for name, url in connections.items()
    }
    catalog = Catalog(operations={"crm.get": operation(auth)}, connections=declared)
    assert gates_by_breaker(catalog) == gates
    assert keys_of(catalog, "crm", None) == sorted(gates)
    for name, url in connections.items():
        assert keys_of(catalog, "crm", name) == [key_of("crm", url or "https://crm.test")]
    assert keys_of(catalog, "other", None) == keys_of(catalog, "crm", "nobody") == []
