"""Answers that speak of limits: the headers of every vendor with what they say, and two connectors' own rules."""

import json
from typing import Any

from connectors.exchange import Answered
from connectors.rates.reader import Rates, read_rates
from connectors.rates.rules import NO_RULES, BodyRule, HeaderRule, RateRules
from connectors.rates.units import Unit
from schemas.outcome import RateReading

NOW = 1_795_000_000.0  # 18 Nov 2026 11:06:40 UTC
DATE = "Wed, 18 Nov 2026 09:46:40 GMT"
"""What it is then by a vendor's clock that is 80 minutes slow."""


def read(headers: dict[str, str], body: Any = None, *, status: int = 200, rules: RateRules = NO_RULES) -> Rates:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return read_rates(Answered(status, headers, raw, None, "1.1", 0.1, 0), rules, NOW)


def readings(headers: dict[str, str], rules: RateRules = NO_RULES) -> list[RateReading]:
    return list(read(headers, rules=rules).readings)


def told(
    bucket: str = "",
    most: int | None = None,
    left: int | None = None,
    reset: float | None = None,
    window: float | None = None,
) -> RateReading:
    return RateReading(bucket=bucket, most=most, left=left, reset_s=reset, window_s=window)


DRAFTS = {
    "draft 09": (
        {
            "ratelimit-policy": '"burst";q=100;w=60, "daily";q=1000;w=86400;qu="requests";pk=:b64:',
            "ratelimit": '"burst";r=50;t=30',
        },
        [told("burst", 100, 50, 30, 60), told("daily", 1000, None, None, 86400)],
    ),
    "draft 09, another unit": (
        {"ratelimit-policy": '"bytes";q=9;w=60;qu="content-bytes"', "ratelimit": '"bytes";r=0;t=9'},
        [],
    ),
    "draft 08": (
        {"ratelimit": "default;r=50;t=5", "ratelimit-policy": "default;q=100;w=10"},
        [told("default", 100, 50, 5, 10)],
    ),
    "draft 08 alone": ({"ratelimit": "default;r=50;t=5"}, [told("default", None, 50, 5)]),
    "draft 07": (
        {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=10, 5000;w=3600"},
        [told("", 100, 50, 5, 10), told("", 5000, None, None, 3600)],
    ),
    "draft 03": (
        {"ratelimit-limit": "100, 10;w=1, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "30"},
        [told("", 100, 50, 30, 60)],
    ),
    "draft 03 in short": ({"ratelimit-limit": "100", "ratelimit-remaining": "0"}, [told("", 100, 0)]),
}
VENDORS = {
    "Atlassian": (
        {
            "beta-ratelimit-policy": '"tenant-app-quota";q=100100;w=3600',
            "beta-ratelimit": '"tenant-app-quota";r=17842;t=2107',
            "ratelimit-reason": "tenant-app-quota",
            "x-ratelimit-limit": "350",
            "x-ratelimit-remaining": "349",
            "x-ratelimit-reset": "2026-11-18T09:48Z",
            "x-ratelimit-nearlimit": "false",
            "date": DATE,
        },
        [told("", 350, 349, 80), told("tenant-app-quota", 100100, 17842, 2107, 3600)],
    ),
    "Atlassian, own servers": (
        {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "40",
            "x-ratelimit-interval-seconds": "1",
            "x-ratelimit-fillrate": "10",
        },
        [told("", 10, 40, None, 1)],
    ),
    "GitHub": (
        {
            "x-ratelimit-limit": "5000",
            "x-ratelimit-remaining": "4987",
            "x-ratelimit-used": "13",
            "x-ratelimit-reset": "1795001800",
            "x-ratelimit-resource": "Core",
        },
        [told("core", 5000, 4987, 1800)],
    ),
    "OpenAI": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
            "x-ratelimit-remaining-tokens_usage_based": "7",
            "x-ratelimit-reset-tokens_usage_based": "12ms",
        },
        [
            told("requests", 60, 59, 1),
            told("tokens", 150000, 149984, 360),
            told("tokens_usage_based", None, 7, 0.012),
        ],
    ),
    "Azure OpenAI": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "-1",
            "x-ratelimit-reset-requests": "10",
        },
        [told("requests", 60, None, 10)],
    ),
    "Anthropic": (
        {
            f"anthropic-ratelimit-{bucket}-{role}": value
            for bucket in ("requests", "tokens", "input-tokens", "output-tokens")
            for role, value in (("limit", "50"), ("remaining", "49"), ("reset", "2026-11-18T09:46:41.5Z"))
        }
        | {"date": DATE},
        [told(bucket, 50, 49, 1.5) for bucket in ("requests", "tokens", "input-tokens", "output-tokens")],
    ),
    "Stripe": (
        {"stripe-rate-limited-reason": "Endpoint-Rate", "stripe-should-retry": "true"},
        [told("endpoint-rate", None, 0)],
    ),
    "Slack": ({"retry-after": "30"}, []),
    "Shopify": ({"x-shopify-shop-api-call-limit": "32/40"}, [told("", 40, 8)]),
    "Shopify, full": ({"x-shopify-shop-api-call-limit": "41/40"}, [told("", 40, 0)]),
    "HubSpot": (
        {
            "x-hubspot-ratelimit-daily": "250000",
            "x-hubspot-ratelimit-daily-remaining": "249000",
            "x-hubspot-ratelimit-interval-milliseconds": "10000",
            "x-hubspot-ratelimit-max": "100",
            "x-hubspot-ratelimit-remaining": "99",
            "x-hubspot-ratelimit-secondly": "10",
            "x-hubspot-ratelimit-secondly-remaining": "9",
        },
        [
            told("daily", 250000, 249000, None, 86400),
            told("interval", 100, 99, None, 10),
            told("secondly", 10, 9, None, 1),
        ],
    ),
    "Salesforce": (
        {"sforce-limit-info": "api-usage=25/5000; per-app-api-usage=17/250(appName=x)"},
        [told("api-usage", 5000, 4975, None, 86400), told("per-app-api-usage", 250, 233, None, 86400)],
    ),
    "Salesforce, new": (
        {"sforce-limit-info": "api-usage=10018/100000; api-bursts=1/750"},
        [told("api-usage", 100000, 89982, None, 86400), told("api-bursts", 750, 749)],
    ),
    "Microsoft Graph": (
        {
            "ratelimit-limit": "1200",
            "ratelimit-remaining": "120",
            "ratelimit-reset": "5",
            "x-ms-throttle-limit-percentage": "0.9",
            "x-ms-throttle-scope": "Tenant_Application/ReadWrite/a/b",
            "x-ms-resource-unit": "2",
        },
        [told("", 1200, 120, 5)],
    ),
    "Notion": ({"retry-after": "12"}, []),
    "Discord": (
        {
            "x-ratelimit-limit": "5",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "1795000470.123",
            "x-ratelimit-reset-after": "64.57",
            "x-ratelimit-bucket": "abcd1234",
            "x-ratelimit-global": "true",
            "x-ratelimit-scope": "user",
        },
        [told("abcd1234", 5, 0, 64.57)],
    ),
    "X": (
        {"x-rate-limit-limit": "900", "x-rate-limit-remaining": "899", "x-rate-limit-reset": "1795000900"},
        [told("", 900, 899, 900)],
    ),
    "Linear": (
        {
            "x-ratelimit-requests-limit": "1500",
            "x-ratelimit-requests-remaining": "1499",
            "x-ratelimit-requests-reset": "1795000900500",
            "x-ratelimit-complexity-limit": "250000",
            "x-ratelimit-complexity-remaining": "249990",
            "x-ratelimit-complexity-reset": "1795000900500",
            "x-complexity": "10",
        },
        [told("requests", 1500, 1499, 900.5), told("complexity", 250000, 249990, 900.5)],
    ),
}
FORMS = DRAFTS | VENDORS
GITHUB = VENDORS["GitHub"][0]
SKUVAULT = RateRules(headers=(HeaderRule(limit="core", reset="x-ratelimit-reset", unit=Unit.MS),))
THROTTLE = BodyRule(path="/cost/throttle", limit="points", most="max", left="now", restore="rate")
