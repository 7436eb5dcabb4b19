"""What the manifests declare, as the frozen values that the gateway works with: merged, resolved, compiled.

No reading and no judging of text here; `manifest` has done both.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from connectors.arguments import ArgumentCheck, ArgumentError
from connectors.breaking.terms import DEFAULT_TERMS, BreakerTerms
from connectors.limits import Limit, Use
from connectors.rates.rules import NO_RULES, RateRules
from connectors.secret import MissingSecret, Secret
from schemas.effect import OperationClass

__all__ = [
    "Agent",
    "Auth",
    "BreakerTerms",
    "Connection",
    "Egress",
    "Limit",
    "OAuth2",
    "Operation",
    "Operator",
    "Readback",
    "Use",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    type: Literal["none", "api_key", "bearer", "basic", "oauth2"]
    where: Literal["header", "query"] | None = None
    """api_key: where the key goes (`in` in the manifest)."""
    name: str | None = None
    """api_key: the header or parameter."""
    oauth2: "OAuth2 | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """How tokens are got."""

    grant: Literal["client_credentials", "refresh_token"]
    token_url: str
    """Absolute, or a path below the base_url."""
    scopes: tuple[str, ...] = ()
    client_auth: Literal["basic", "post", "private_key_jwt"] = "basic"
    rotation: Literal["none", "grace", "strict"] = "none"
    key_id: str | None = None
    """private_key_jwt: the `kid` of its header."""
    audience: str | None = None
    """private_key_jwt: its `aud`; None: the token endpoint."""
    authorize_url: str | None = None
    """Where a person consents; absolute, or a path below the base_url."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    allow_hosts: tuple[str, ...]
    allow_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Readback:
    """How to find out at the vendor whether a call ran; values may hold placeholders for the call's arguments."""

    tool: str
    """A safe operation of the same connector."""
    arguments: Mapping[str, Any]
    path: str
    """JSON pointer into its answer: the list, or the one thing, among which the call's own is looked for."""
    where: Mapping[str, Any]
    """JSON pointers into one of these, and what stands there if it is the call's own."""
    settle_s: float
    """How long after a request may have arrived its effect may still not show."""
    result: str | None = None
    """JSON pointer into what was found: the call's result; None: there is none."""
    absent_on: tuple[int, ...] = ()
    """Statuses with which the vendor says that there is no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    tool: str
    connector: str
    name: str
    op_class: OperationClass
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    base_url: str
    timeout_s: float
    max_attempts: int
    idempotency_header: str | None
    idempotency_window_s: float | None
    auth: Auth
    egress: Egress
    input_schema: Mapping[str, Any] | None
    output_schema: Mapping[str, Any] | None
    approval_required: bool
    approval_timeout_s: float = 1800.0
    approval_on_timeout: Literal["reject", "escalate"] = "reject"
    on_breaking: Literal["warn", "quarantine_writes", "block"] = "block"
    """What an answer that breaks `output_schema` does to the call."""
    queue_limit: int | None = None
    """Calls a lane may hold; None: the gateway's setting."""
    title: str = ""
    description: str = ""
    uses: tuple[Use, ...] = ()
    """Limits that each call takes its share of, in the order of the connector's `limits`."""
    rates: RateRules = NO_RULES
    """Where the connector tells of its limits."""
    breaker: BreakerTerms = DEFAULT_TERMS
    """When its origin is left alone; the same for all operations of a connector."""
    readback: Readback | None = None
    """Of class `verifiable`."""
    _check: ArgumentCheck = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_check", ArgumentCheck(self.input_schema, self.path))

    def argument_errors(self, arguments: Mapping[str, Any]) -> list[ArgumentError]:
        """Return at most 20 errors, none with a value in it."""
        return self._check.errors(arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    name: str
    connector: str
    base_url: str | None = None
    """Replaces the connector's."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    missing: Mapping[str, MissingSecret] = field(default_factory=dict)
    """Secrets that are named but not found; calls are rejected with `token.config`."""

    def revealing(self) -> tuple[str, ...]:
        """Return every text that would give this connection away, for taking it out of what is stored."""
        plain = {name: secret.reveal() for name, secret in self.secrets.items()}
        if "username" in plain and "password" in plain:
            # What is sent under basic auth is neither of the two, but gives both away.
            plain["basic"] = base64.b64encode(f"{plain['username']}:{plain['password']}".encode()).decode()
        return tuple(plain.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    name: str
    key: Secret | None = None
    """None: no key declared, or one that is missing. Nobody is this agent over HTTP then."""
    allow: tuple[str, ...] = ()
    missing: MissingSecret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    name: str
    key: Secret | None = None
    roles: tuple[str, ...] = ()
    missing: MissingSecret | None = None
