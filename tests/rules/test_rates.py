"""What answers say about limits: every vendor's form, and what makes no sense."""

import json
import random
import string
from typing import Any

import pytest

from connectors.exchange import Answered, Cut
from connectors.rates.reader import read_rates
from connectors.rates.rules import NO_RULES, HeaderRule, RateRules, RetryRule
from connectors.rates.units import LONGEST_S, Unit, count, wait_s
from schemas.outcome import RateReading
from tests.rate_answers import DATE, FORMS, GITHUB, NOW, SKUVAULT, THROTTLE, read, readings, told


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str) -> None:
    headers, expected = FORMS[form]

    def key(reading: RateReading) -> tuple[str, int]:
        return reading.bucket, reading.most or 0

    assert sorted(readings(headers), key=key) == sorted(expected, key=key)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "2.0"}, 2.0),
        ({"retry-after": "20", "retry-after-ms": "1250"}, 1.25),
        ({"retry-after": "Wed, 18 Nov 2026 09:47:10 GMT", "date": DATE}, 30.0),
        ({"x-ratelimit-retry-after": "59"}, 59.0),
        ({"retry-after": "7200", "ratelimit": '"a";r=0;t=5'}, 7200.0),
        ({"ratelimit": '"a";r=0;t=5, "b";r=3;t=50, "c";r=0;t=9'}, 9.0),
        ({"retry-after": "-1", "ratelimit": '"a";r=0;t=5'}, 5.0),
        ({"ratelimit": '"a";r=1;t=5'}, None),
        ({}, None),
    ],
)
def test_a_429_waits_as_told_else_until_what_is_exhausted_is_full_again(
    headers: dict[str, str], wait: float | None
) -> None:
    found = read(headers, status=429)
    assert found.limited
    assert found.retry_after_s == wait


def google(*details: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": list(details), **more}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45.837906927s"}


def quota(name: str) -> dict[str, Any]:
    violation = {"quotaId": name, "quotaValue": "50"}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


@pytest.mark.parametrize(
    ("status", "body", "limited", "wait", "rates"),
    [
        (429, google(RETRY), True, 45.837906927, []),
        (429, [google(RETRY)], True, 45.837906927, []),
        (
            429,
            google(RETRY, quota("RequestsPerMinute")),
            True,
            45.837906927,
            [told("requestsperminute", 50, 0, None, 60)],
        ),
        (429, google(RETRY, quota("RequestsPerDay")), True, 3600, [told("requestsperday", 50, 0, None, 86400)]),
        (403, {"error": {"errors": [{"reason": "rateLimitExceeded"}]}}, True, None, []),
        (403, {"error": {"errors": [{"reason": "dailyLimitExceeded"}]}}, True, 3600, []),
        (403, {"error": {"errors": [{"reason": "forbidden"}], "status": "PERMISSION_DENIED"}}, False, None, []),
        (403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], True, None, []),
        (403, [{"errorCode": "INSUFFICIENT_ACCESS"}], False, None, []),
        (429, {"policyName": "DAILY"}, True, 3600, [told("daily", None, 0, None, 86400)]),
        (429, {"policyName": "SECONDLY"}, True, 1, [told("secondly", None, 0, None, 1)]),
        (429, {"additional_data": {"rate_limit_reason": "x"}}, True, None, []),
        (403, {"message": "You have exceeded a secondary rate limit."}, True, 60, []),
        (500, google(RETRY), False, None, []),
        (429, b"{", True, None, []),
        (403, b"[[[", False, None, []),
        (403, [], False, None, []),
        (403, {"error": {"details": [{"violations": [{"quotaId": 3}]}, 7]}}, False, None, []),
    ],
)
def test_a_refusal_is_read_in_its_body(
    status: int,
    body: Any,
    limited: bool,  # noqa: FBT001 - a table
    wait: float | None,
    rates: list[RateReading],
) -> None:
    found = read({}, body, status=status)
    assert (found.limited, found.retry_after_s, list(found.readings)) == (limited, wait, rates)


def test_retry_after_wins_over_the_body() -> None:
    assert read({"retry-after": "3"}, google(RETRY), status=429).retry_after_s == 3.0


def test_a_cut_body_is_not_looked_at() -> None:
    whole = json.dumps(google(RETRY)).encode()
    assert read_rates(Answered(429, {}, whole, Cut.LOST, "1.1", 0.1, 0), NO_RULES, NOW).retry_after_s is None


@pytest.mark.parametrize(
    ("text", "unit", "wait"),
    [
        ("30", None, 30), ("900000000", None, LONGEST_S), ("1795000030", None, 30), ("1795000030000", None, 30),
        ("1795000030000000", None, 30), ("1794999999", None, 0), ("0", None, 0), (" 1.5 ", None, 1.5), (1.5, None, 1.5),
        ("1h2m3s", None, 3723), ("250us", None, 0.00025), ("2026-11-18T11:06:50Z", None, 10), ("2026-11-18T11:07Z", None, 20),
        ("2026-11-18T12:06:50+01:00", None, 10), ("2026-11-18T11:06:50.123456789Z", None, 10.123456),
        ("2026-11-18 11:06:50", None, 10), ("Wed, 18 Nov 2026 11:06:50 GMT", None, 10),
        ("1500", Unit.MS, 1.5), ("1500", Unit.US, 0.0015), ("1795000030", Unit.S, LONGEST_S),
        ("1795000030", Unit.EPOCH_S, 30), ("1795000030500", Unit.EPOCH_MS, 30.5), ("5", Unit.EPOCH_S, 0),
        ("1m", Unit.DURATION, 60), ("2026-11-18T11:06:50Z", Unit.ISO8601, 10), ("Wed, 18 Nov 2026 11:06:50 GMT", Unit.DATE, 10),
        ("30", Unit.DURATION, None), ("30", Unit.DATE, None), ("1m", Unit.S, None), ("nan", None, None), ("inf", Unit.S, None),
        ("-1", None, None), ("1e3", None, None), ("1_0", None, None), ("٣", None, None), ("٣s", None, None), ("", None, None),
        ("2026-13-45T99:99Z", None, None), ("2026-11-18", None, None), ("9" * 65, None, None), ("9" * 64, Unit.S, LONGEST_S),
        ("1s 2s", None, None), ("s", None, None), (True, None, None), (float("nan"), None, None), (float("inf"), None, None),
        (-1.0, None, None), (None, None, None), ([], None, None),
    ],
)  # fmt: skip
def test_a_wait_is_read_by_its_unit_or_its_size(text: Any, unit: Unit | None, wait: float | None) -> None:
    found = wait_s(text, unit, NOW)
    assert found == (None if wait is None else pytest.approx(wait, abs=1e-5))


@pytest.mark.parametrize(
    ("value", "amount"),
    [("7", 7), (7, 7), (7.9, 7), ("7.0", 7), ("-1", None), (-1, None), (True, None), (None, None), (10**400, None),
     (float("nan"), None), (float("inf"), None), ("٣", None), ("1e3", None), ("", None), (str(10**15 + 1), None)],
)  # fmt: skip
def test_a_count_is_a_bounded_number(value: Any, amount: int | None) -> None:
    assert count(value) == amount


MALFORMED = [
    '"a";r=5;t', '"a;r=5', '"a";;r=5', '"a" r=5', '"a";r=5,,"b";r=1', "limit=", "=5", ";;;", ",", "\x00", "\ud800", "٣",
    "1,2,3", "-5", "NaN", "Infinity", "1e9", "9" * 5000, '"a";r=99999999999999999999999;t=5', "(1 2);r=3", "?1", ":YQ==:",
    "0x10", "1_000", "+5", "5 ", "5;w=", "5;w=-1", "5;w=nan", "32/0", "0/0", "/40", "32/", "a=b/c", "1/2/3", "6m0", "m", "1s1",
    "2026-02-30T25:61Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00", "Fri, 99 Zzz 9999 99:99:99 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT", "\\" * 3000, '"' + "\\" * 3000, ";a" * 2000, ",".join(f'"{n}";r=1;t=1' for n in range(400)),
]  # fmt: skip
NAMES = sorted(
    {name for headers, _ in FORMS.values() for name in headers} | {"retry-after", "retry-after-ms", "date", "x-max"}
)
STRANGE = string.digits * 4 + '.-+:;=,"/ eTZGMTsmhu_٣٤nan\\\x00\n'


def garbage(dice: random.Random) -> str:
    kind = dice.random()
    if kind < 0.3:
        return dice.choice(MALFORMED)
    if kind < 0.6:
        return "".join(dice.choices(STRANGE, k=dice.randrange(40)))
    good = dice.choice([*GITHUB.values(), *(value for headers, _ in FORMS.values() for value in headers.values())])
    cut = dice.randrange(len(good) + 1)
    return good[:cut] + dice.choice(STRANGE) + good[cut + dice.randrange(3) :]


def test_no_value_makes_it_raise_or_leave_its_bounds() -> None:
    dice = random.Random(20261118)
    every = RateRules(
        headers=(
            *SKUVAULT.headers,
            HeaderRule(limit="x", most="x-max", left="retry-after", reset="date", unit=Unit.DATE),
        ),
        bodies=(THROTTLE,),
        retry_after=RetryRule(header="x-ratelimit-limit"),
    )
    values = 0
    for turn in range(4000):
        headers = {name: garbage(dice) for name in dice.sample(NAMES, 4)}
        body = dice.choice(
            [None, garbage(dice).encode("utf-8", "surrogatepass"), {"error": {"details": [garbage(dice)]}}]
        )
        found = read(headers, body, status=dice.choice([200, 403, 429, 503]), rules=every if turn % 2 else NO_RULES)
        values += len(headers)
        assert found.retry_after_s is None or 0 <= found.retry_after_s <= LONGEST_S
        assert len(found.readings) <= 96
        for one in found.readings:
            assert one.most is None or 1 <= one.most <= 10**15
            assert one.left is None or 0 <= one.left <= 10**15
            assert one.reset_s is None or 0 <= one.reset_s <= LONGEST_S
            assert one.window_s is None or 0 < one.window_s <= LONGEST_S
            assert len(one.bucket) <= 64
    assert values >= 16_000


@pytest.mark.parametrize("text", MALFORMED)
@pytest.mark.parametrize(
    "name", ["ratelimit", "ratelimit-policy", "sforce-limit-info", "x-ratelimit-limit", "retry-after"]
)
def test_every_malformed_value_stays_within_bounds_alone(name: str, text: str) -> None:
    for one in read({name: text}, status=429).readings:
        assert one.most is None or one.most >= 1
        assert one.left is None or one.left >= 0
        assert one.reset_s is None or 0 <= one.reset_s <= LONGEST_S


@pytest.mark.parametrize("text", ['"a";r=5;t="5', '"a";r=5 "b"', '"a";r=5,,"b";r=1', ";r=5", "a" * 5000, '"a";R=5'])
def test_a_malformed_draft_is_ignored_as_a_whole(text: str) -> None:
    assert readings({"ratelimit": text, "ratelimit-policy": text}) == []
