"""Every key of `sluice/v1` and every built-in default, once, with its unit and its meaning.

Shape only: what needs two keys or two documents to judge is in `checks`. Secrets appear as references, never as values.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    Tag,
)

from connectors.manifest.part import HeaderName, LimitName, Part, Pointer, matching
from connectors.manifest.rates_model import RateHeaders
from connectors.manifest.secret_reference import SecretReference
from connectors.manifest.units import Duration, DurationField, Percentage, PercentageField, RateField
from schemas.effect import OperationClass

API_VERSION = "sluice/v1"
TOOL_SEPARATOR = "."


def _as_text(value: Any) -> Any:
    # `per_page: 100` is what people write; in a query or a header everything is text.
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


ConnectorName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9_-]{0,62}",
        "must be lower-case letters, digits, - and _, starting with a letter: tool names begin with it",
    ),
]
Name = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}", "must be letters, digits and . _ @ -")]
OperationName = Annotated[
    str, matching(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", "must be words of letters, digits, - and _ joined by dots")
]
ParameterName = Annotated[str, matching(r"[^\x00-\x20&=#]{1,128}", "is not a parameter name")]
_WRITTEN = BeforeValidator(_as_text, json_schema_input_type=str | int | float | bool)
Template = Annotated[str, _WRITTEN, matching(r"[^\x00-\x1f\x7f]*", "must be one line of text")]
ToolPattern = Annotated[
    str, matching(r"[A-Za-z0-9_.*?-]{1,256}", "must be a tool such as crm.contacts.create or a pattern such as crm.*")
]


class ConnectorMetadata(Part):
    name: ConnectorName
    version: Annotated[str, _WRITTEN] = "0"
    title: str = ""


class NoAuth(Part):
    type: Literal["none"] = "none"


class ApiKeyAuth(Part):
    type: Literal["api_key"]
    where: Literal["header", "query"] = Field(alias="in")
    name: ParameterName


class BearerAuth(Part):
    type: Literal["bearer"]


class BasicAuth(Part):
    type: Literal["basic"]


class OAuth2Auth(Part):
    type: Literal["oauth2"]
    grant: Literal["client_credentials", "refresh_token"]
    token_url: str = Field(description="Absolute, or relative to the connection's base_url.")
    scopes: tuple[str, ...] = ()
    client_auth: Literal["basic", "post", "private_key_jwt"] = "basic"
    rotation: Literal["none", "grace", "strict"] = Field(
        "none",
        description="What the vendor does with a used refresh token: keeps it, keeps it for a while, or takes a second use for theft.",
    )
    key_id: str | None = Field(None, description="private_key_jwt: the `kid` by which the vendor knows the key.")
    audience: str | None = Field(None, description="private_key_jwt: its `aud`; default: token_url.")
    authorize_url: str | None = Field(
        None, description="Where a person consents, for `sluice connections authorize`; absolute or a path."
    )


AuthField = Annotated[NoAuth | ApiKeyAuth | BearerAuth | BasicAuth | OAuth2Auth, Discriminator("type")]


class Egress(Part):
    allow_hosts: tuple[str, ...] | None = Field(
        None, description="Hosts that may be called; `host` means any port. Default: base_url's."
    )
    allow_private: StrictBool = Field(default=False, description="Also plain http, and loopback and private addresses.")


class LimitManifest(Part):
    """A named budget, shared by every worker: a rate or a concurrency."""

    rate: RateField | None = None
    concurrency: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    per: Literal["connector", "connection", "operation"] = "connection"
    mode: Literal["strict", "soft"] = "strict"


class Estimate(Part):
    path: Pointer
    plus: Annotated[StrictInt, Field(ge=0)] = 0


class WeightedUse(Part):
    """A cost known only afterwards: reserved at the estimate, settled at the actual value."""

    estimate: Estimate
    actual: Pointer


def _use_kind(value: Any) -> str:
    return "weighted" if isinstance(value, dict | WeightedUse) else "plain"


UseField = Annotated[
    Annotated[StrictInt, Field(ge=0, le=1_000_000), Tag("plain")] | Annotated[WeightedUse, Tag("weighted")],
    Discriminator(_use_kind),
]


class Retry(Part):
    max_attempts: Annotated[StrictInt, Field(ge=1, le=100)] = 5


class Slow(Part):
    over: DurationField = Duration.parse("5s")
    rate: PercentageField = Percentage.parse("80%")


class Breaker(Part):
    window: DurationField = Duration.parse("60s")
    min_calls: Annotated[StrictInt, Field(ge=1)] = 10
    failure_rate: PercentageField = Percentage.parse("50%")
    consecutive: Annotated[StrictInt, Field(ge=1)] = 5
    slow: Slow = Slow()
    open: DurationField = Duration.parse("5s")


class Contract(Part):
    on_breaking: Literal["warn", "quarantine_writes", "block"] = "block"


class Defaults(Part):
    """What an operation inherits when it says nothing; what this says nothing about is built in, here."""

    limits: dict[LimitName, UseField] = Field({}, description="An operation's own `limits` replace these as a whole.")
    timeout: DurationField = Field(Duration.parse("10s"), description="Total time of one attempt.")
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    contract: Contract = Contract()


class Request(Part):
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(description="Starts with /; {name} stands for an argument, encoded as one segment.")
    query: dict[ParameterName, Template] = Field({})
    headers: dict[HeaderName, Template] = Field({})


class Idempotency(Part):
    header: HeaderName
    window: DurationField = Field(description="How long the vendor promises to honour a key.")


class Approval(Part):
    required: StrictBool = True
    timeout: DurationField = Duration.parse("30m")
    on_timeout: Literal["reject", "escalate"] = "reject"


class Match(Part):
    path: Pointer = Field(description="Where in the answer the things are among which the call's own is looked for.")
    where: dict[Pointer, Any] = Field(
        min_length=1, description='What tells it from all others, such as `/ref: "{ref}"`; {name} is an argument.'
    )


class Readback(Part):
    """How to find out whether a call ran. Nothing found after `settle` is taken for the proof that it did not."""

    operation: str = Field(description="An operation of class safe; it is called like any other.")
    arguments: dict[str, Any] = Field({})
    match: Match
    settle: DurationField = Field(
        Duration.parse("5m"),
        description="How long after the request may have arrived its effect may still not show. Take the vendor's word for it.",
    )
    result: Pointer | None = Field(
        None, description="Where in what was found the result of the call stands; an empty text is all of it."
    )
    absent_on: tuple[Annotated[StrictInt, Field(ge=400, le=499)], ...] = Field(
        (), description="Statuses with which the vendor says that there is no such thing, such as 404."
    )


class OperationManifest(Part):
    request: Request
    input: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments.")
    output: dict[str, Any] | None = Field(None, description="JSON Schema of the response.")
    op_class: OperationClass = Field(OperationClass.UNSAFE, alias="class")
    idempotency: Idempotency | None = None
    contract: Contract | None = None
    approval: Approval | None = None
    readback: Readback | None = None
    limits: dict[LimitName, UseField] | None = None
    timeout: DurationField | None = None
    retry: Retry | None = None
    title: str = ""
    description: str = ""


class Health(Part):
    """How to find out whether the vendor is well when no call has shown it lately."""

    probe: OperationName = Field(description="An operation of class safe; it is called like any other.")
    arguments: dict[str, Any] = Field({})
    every: DurationField = Field(Duration.parse("30s"), description="How old evidence may be before it is probed.")


class Document(Part):
    api_version: Literal["sluice/v1"] = Field(alias="apiVersion")


class ConnectorManifest(Document):
    kind: Literal["Connector"]
    metadata: ConnectorMetadata
    base_url: str
    auth: AuthField = NoAuth()
    egress: Egress = Egress()
    limits: dict[LimitName, LimitManifest] = Field({})
    rate_headers: RateHeaders = RateHeaders()
    defaults: Defaults = Defaults()
    health: Health | None = None
    operations: dict[OperationName, OperationManifest] = Field(min_length=1)


class ConnectionMetadata(Part):
    name: Name
    connector: str


class ConnectionManifest(Document):
    kind: Literal["Connection"]
    metadata: ConnectionMetadata
    base_url: str | None = None
    secrets: dict[str, SecretReference] = Field({})


class PrincipalMetadata(Part):
    name: Name


class AgentManifest(Document):
    kind: Literal["Agent"]
    metadata: PrincipalMetadata
    key: SecretReference | None = Field(
        None, description="Needed over HTTP; on the bus the broker's access control speaks."
    )
    allow: tuple[ToolPattern, ...] = Field((), description="Tools this agent may call; none by default.")


class OperatorManifest(Document):
    kind: Literal["Operator"]
    metadata: PrincipalMetadata
    key: SecretReference
    roles: tuple[Literal["viewer", "operator", "approver", "admin"], ...] = Field(min_length=1)


Manifest = ConnectorManifest | ConnectionManifest | AgentManifest | OperatorManifest
KINDS: dict[str, type[Manifest]] = {
    "Connector": ConnectorManifest,
    "Connection": ConnectionManifest,
    "Agent": AgentManifest,
    "Operator": OperatorManifest,
}
AUTH_SECRETS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "none": (frozenset(), frozenset()),
    "api_key": (frozenset({"api_key"}), frozenset()),
    "bearer": (frozenset({"token"}), frozenset()),
    "basic": (frozenset({"username", "password"}), frozenset()),
}
"""The secrets that an auth type needs, and those it can use besides; for oauth2 see `secrets_of`."""


def secrets_of(auth: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the same for what a connector declares; None when that is not even an auth type."""
    kind = auth.get("type", "none")
    if kind != "oauth2":
        return AUTH_SECRETS.get(kind) if isinstance(kind, str) else None
    proof = "private_key" if auth.get("client_auth") == "private_key_jwt" else "client_secret"
    # Without a refresh token a person brings one: `sluice connections authorize` or `set`.
    besides = {"refresh_token"} if auth.get("grant") == "refresh_token" else set[str]()
    return frozenset({"client_id", proof}), frozenset(besides)
