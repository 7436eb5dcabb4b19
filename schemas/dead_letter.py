"""The `dlr/1` record: a dead letter as a complete case file, in groups (reference: mechanisms §1).

Fields of class E hold a `Sealed` value (AES-GCM); class N (secrets) has no field to stand in.
"""

from typing import Any

import msgspec

from schemas.effect import Effect, OperationClass
from schemas.failure import Failure
from schemas.outcome import Attempt

SCHEMA = "dlr/1"
DEAD_LETTERED = "tool.call.dead_lettered"


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """An encrypted part: inline, or as a file of the blob store when it is large."""

    encoding: str = "aes-256-gcm"
    key_id: str
    inline: str | None = None
    """base64 of nonce + ciphertext + tag."""
    blob_ref: str | None = None
    size: int
    """Bytes of the plaintext."""
    sha256: str
    truncated: bool = False


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked, and under which names the call is known."""

    schema: str = SCHEMA
    dl_id: str
    tenant_id: str
    agent_id: str | None
    session_id: str | None
    event_id: str | None
    event_type: str
    call: str | None
    traceparent: str | None


class OperationPart(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been called, and what it promises."""

    tool: str | None
    connector: str | None
    operation: str | None
    connection: str | None
    op_class: OperationClass | None
    connector_rev: str | None
    gateway_version: str


class IdempotencyPart(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that make a replay safe."""

    key: str | None
    request_fingerprint: str | None
    vendor_key: str | None
    provider_window_until: str | None = None


class SourcePart(msgspec.Struct, frozen=True, kw_only=True):
    """Where the event lay, and when."""

    engine: str
    stream: str | None
    offset_or_id: str | None
    group: str
    published_at: str | None
    delivery_count: int | None


class RawPart(msgspec.Struct, frozen=True, kw_only=True):
    """The message as it came (class E), and why it could not be read."""

    bytes: Sealed | None
    decode_error: str | None = None


class RenderedPart(msgspec.Struct, frozen=True, kw_only=True):
    """The request as it was or would have been sent; arguments and body are class E."""

    method: str | None
    host: str | None
    path_template: str | None
    arguments: Sealed | None


class FailurePart(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, classified once."""

    failure: Failure = msgspec.field(name="class")
    stage: str
    message: str
    retry_verdict: str
    action: str
    first_at: str
    last_at: str
    errors: list[dict[str, str]] = []
    findings: list[dict[str, Any]] = []


class UpstreamPart(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's last answer."""

    http_status: int | None
    headers: dict[str, str]
    body: Sealed | None
    size: int
    truncated: bool


class EffectPart(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it ran: the field no other dead letter has."""

    state: Effect
    evidence: str
    decided_at: str
    decided_by: str


class AttemptsPart(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempts and how many there were."""

    total: int
    newest: list[Attempt]


class EnvironmentPart(msgspec.Struct, frozen=True, kw_only=True):
    """The surroundings at the end."""

    deadline: str | None
    worker: str


class GroupingPart(msgspec.Struct, frozen=True, kw_only=True):
    """What makes letters alike."""

    fingerprint: str


class LifecyclePart(msgspec.Struct, frozen=True, kw_only=True):
    """The letter's own state, and its place in a chain of replays."""

    status: str = "open"
    root_id: str | None
    parent_id: str | None
    generation: int
    override: str | msgspec.UnsetType = msgspec.UNSET
    """Why an operator let a chain that was as long as it may be go on with this call."""


class PrivacyPart(msgspec.Struct, frozen=True, kw_only=True):
    """Which policy was applied and which key opens the sealed parts."""

    redaction_policy_id: str
    redacted_paths: list[str]
    enc_key_id: str


class IntegrityPart(msgspec.Struct, frozen=True, kw_only=True):
    """A hash over everything above."""

    record_sha256: str
    written_by: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The whole case file."""

    identity: Identity
    operation: OperationPart
    idempotency: IdempotencyPart
    source: SourcePart
    raw: RawPart
    rendered: RenderedPart
    failure: FailurePart
    upstream: UpstreamPart | None
    effect: EffectPart
    attempts: AttemptsPart
    environment: EnvironmentPart
    cost: dict[str, str] | None
    grouping: GroupingPart
    lifecycle: LifecyclePart
    privacy: PrivacyPart
    integrity: IntegrityPart
