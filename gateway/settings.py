"""Every setting of the gateway, once, with unit, meaning and reason: `sluice.toml` < `SLUICE_…` < flags."""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(value: object) -> object:
    """Read `30m` as a number of seconds; a number stays what it is."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    return value if found is None else float(found[1]) * _UNITS[found[2]]


Span = Annotated[float, BeforeValidator(_seconds)]
"""Seconds, also written with a unit."""

PRIVATE = frozenset({"keys", "alert_webhook", "alert_webhook_secret"})
"""Settings that are secrets."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """The gateway's settings; a field's description is its documentation."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", toml_file="sluice.toml", extra="forbid", frozen=True)

    redis_url: str | None = Field(
        None,
        description="Redis of the working state, or redis-cluster://host:port,host:port; unset = the embedded server.",
    )
    shards: int = Field(
        1,
        ge=1,
        le=256,
        description="Parts of the working state, each with the connectors whose names fall there; fixed when the state is made.",
    )
    bus_url: str | None = Field(
        None, description="Where events travel: kafka://host:port[,host:port], kafka+ssl://…; unset = the same Redis."
    )
    journal_url: str | None = Field(
        None, description="The journal's database, sqlite:///PATH or postgresql://…; unset = $SLUICE_DATA/journal.db."
    )
    data: Path = Field(Path(".sluice"), description="Directory of everything that is kept on disk.")
    connectors: Annotated[list[Path], NoDecode] = Field(
        [Path("connectors.d")], description="Files or directories with manifests, separated by ':'."
    )
    host: str = Field("127.0.0.1", description="Address of the API; only loopback without a declared Operator.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the API.")
    keys: SecretStr | None = Field(
        None, description="`id:base64,…` keys that seal what rests; unset = $SLUICE_DATA/keys."
    )
    topic_prefix: str = Field("", description="Put before every topic's name.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes of `sluice up`.")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="Least severe log line that is written."
    )

    max_event_bytes: int = Field(262_144, ge=1024, description="Largest event that is parsed, bytes.")
    call_deadline: float = Field(
        86_400, gt=0, description="Seconds a call may wait to start when it names no deadline."
    )
    queue_limit: int = Field(
        100_000, ge=1, description="Calls one lane may hold; more are refused, so one dead vendor cannot fill Redis."
    )
    queue_bytes: int = Field(
        1_073_741_824,
        ge=1024,
        description="Bytes that all waiting calls of a tenant may take together; more are refused.",
    )
    memory_high: int = Field(
        0,
        ge=0,
        description="Bytes of Redis memory at which the bus is paused and HTTP refuses; 0: only 80 % of its maxmemory, if it has one.",
    )
    memory_low: float = Field(
        0.9, gt=0, le=1, description="Share of the high watermark below which the bus is read again."
    )
    concurrency: int = Field(256, ge=1, le=10_000, description="Calls one worker has under way at most.")
    intake_batch: int = Field(
        128, ge=1, le=256, description="Events read from the bus at once; more would hold Redis too long."
    )
    bus_session: float = Field(
        10.0, ge=1, description="Seconds without a sign of life until Kafka gives a worker's partitions to others."
    )
    bus_poll_within: float = Field(
        300.0,
        ge=1,
        description="Seconds a batch from Kafka may take until its worker counts as stuck and leaves the group.",
    )
    bus_partitions: int = Field(
        12,
        ge=1,
        le=10_000,
        description="Partitions of a Kafka topic that is created; so many workers can read at once.",
    )
    kafka_copies: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Copies of a Kafka topic that is created; unset: three, if there are so many brokers.",
    )
    kafka_ca: Path | None = Field(
        None, description="File with the certificates to trust at kafka+ssl://…, in PEM; unset: those of the system."
    )
    kafka_user: str | None = Field(None, description="User of the login to Kafka; unset: no login.")
    kafka_password_file: Path | None = Field(None, description="File that holds its password, and nothing else.")
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the login is proved; PLAIN only over TLS."
    )
    kafka_reread: Span = Field(
        60,
        ge=0,
        description="Seconds back from a loss of Redis' data from which Kafka is read again; a replica that takes over knows the place.",
    )
    script_batch: int = Field(64, ge=1, le=256, description="Items of one script call; more would hold Redis too long.")
    start_within: float = Field(
        2.0, gt=0, description="Seconds a claim may wait before its attempt starts; then it is given back."
    )
    lease_guard: float = Field(5.0, gt=0, description="Seconds a lease outlives its call's timeout.")
    max_crashes: int = Field(5, ge=1, description="Lost claims after which a call is dead-lettered as poison.")
    max_alone: int = Field(3, ge=1, description="Deliveries alone after which an event is dead-lettered undecoded.")
    beat_every: float = Field(1.0, gt=0, description="Seconds between a worker's signs of life.")
    dead_after: float = Field(
        4.0, gt=0, description="Seconds without a sign of life after which a worker's events are taken over."
    )
    backoff_base: float = Field(0.5, gt=0, description="Seconds; the first retry waits up to this.")
    backoff_cap: float = Field(900, gt=0, description="Seconds; no back-off is longer.")
    retry_share: float = Field(0.2, ge=0, description="Retries allowed per first attempt of a connector.")
    retry_floor: float = Field(3.0, gt=0, description="Retries a second of a connector that are always allowed.")
    retry_most: float = Field(100.0, ge=1, description="Retries a connector may have saved up.")
    wire_cap: int = Field(2_097_152, ge=1024, description="Bytes of a response on the wire that are read.")
    decoded_cap: int = Field(2_097_152, ge=1024, description="Bytes of a response after decompression that are kept.")
    answer_ttl: int = Field(
        3600,
        ge=1,
        description="Seconds an answer stays in Redis once the journal has it and answers afterwards; without it, as long as its key.",
    )
    scope_ttl: int = Field(86_400, ge=1, description="Seconds an idempotency key is remembered after its call ended.")
    keep_events: int = Field(86_400, ge=1, description="Seconds results and lifecycle events stay on their topics.")
    keep_letters: Span = Field(
        604_800,
        ge=1,
        description="Seconds a letter that is over stays on its topic, with its files, or as in 7d; an open one stays.",
    )
    foreign_wait: int = Field(604_800, ge=1, description="Seconds another group may hold entries of a topic back.")
    trim_every: float = Field(5.0, gt=0, description="Seconds between trims of the topics.")
    reap_every: float = Field(1.0, gt=0, description="Seconds between looks for lost claims.")
    drain: float = Field(8.0, gt=0, description="Seconds calls under way may take to end at a stop.")
    linger: float = Field(
        0.0,
        ge=0,
        description="Seconds the API goes on answering after SIGTERM while /readyz says no, so that a load balancer asks elsewhere.",
    )
    flight_bytes: int = Field(
        8_388_608, ge=65_536, description="Bytes of one script call; Redis would drop a connection that sends too much."
    )
    retry_longest: float = Field(30.0, gt=0, description="Seconds an exhausted retry budget delays a retry at most.")
    blob_cap: int = Field(1_073_741_824, ge=0, description="Bytes all blob files may take together.")
    journal_batch: int = Field(
        500, ge=1, le=10_000, description="Entries of a topic that the journal writes in one transaction at most."
    )
    journal_flush: float = Field(
        0.02, ge=0, le=5, description="Seconds a small batch of the journal waits for company before it is committed."
    )
    journal_result_bytes: int = Field(
        65_536, ge=0, description="Bytes of a result that the journal keeps; a larger one is left out and said to be."
    )
    journal_keep_done: float = Field(
        7.0,
        ge=0,
        description="Days a call stays in the journal after it completed or was ended on purpose; 0: for ever.",
    )
    journal_keep_failed: float = Field(
        30.0,
        ge=0,
        description="Days a call that left a letter, or never ended, stays in the journal; while its letter is open, longer.",
    )
    journal_keep_letters: float = Field(
        30.0, ge=0, description="Days a letter stays in the journal after it was decided; an open one stays."
    )
    alert_similar: int = Field(10, ge=2, description="Calls that end alike within the window before an alert opens.")
    alert_window: Span = Field(
        1800,
        ge=1,
        le=43_200,
        description="Seconds in which alike failures are counted, or as in 30m.",
    )
    alert_breaker_open: Span = Field(
        300, ge=0, description="Seconds a breaker may be open before an alert opens, or as in 5m."
    )
    alert_letters_per_hour: int = Field(100, ge=1, description="Dead letters within an hour before an alert opens.")
    alert_most_per_hour: int = Field(
        60, ge=1, description="Alerts that open within an hour at most; one more says how many patterns wait."
    )
    alert_settle: Span = Field(
        60,
        ge=0,
        description="Seconds something must be well before its alert resolves, or as in 1m; doubled when it comes back.",
    )
    alert_every: float = Field(2.0, gt=0, description="Seconds between looks for patterns.")
    alert_webhook: SecretStr | None = Field(
        None,
        description="Address that alerts are sent to, by Standard Webhooks; unset: nowhere. Shown nowhere but its host.",
    )
    alert_webhook_secret: SecretStr | None = Field(
        None,
        description="`whsec_` and 24 to 64 bytes in base64: signs what is sent. Two, parted by a space, while one replaces the other.",
    )
    alert_webhook_private: bool = Field(
        default=False, description="The webhook may be plain http and in a private network."
    )
    redis_replicas: int | None = Field(
        None,
        ge=0,
        le=8,
        description="Replicas that must hold a `sending` mark before anything is sent; unset: one, once Redis has one; 0: none.",
    )
    replica_wait: Span = Field(
        0.5, gt=0, le=5, description="Seconds a `sending` mark waits for its replicas; then the call waits in its lane."
    )
    redis_wait: float = Field(0.2, gt=0, description="Seconds between tries while Redis is away.")

    @field_validator("connectors", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Read a list as the environment writes one: parted by `:`."""
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @cached_property
    def socket(self) -> Path:
        """The embedded server's unix socket."""
        return self.data / "redis.sock"

    @property
    def state_url(self) -> str:
        """The URL of the working state's Redis."""
        return self.redis_url or f"unix://{self.socket.absolute()}"

    @property
    def journal(self) -> str:
        """The URL of the journal's database."""
        return self.journal_url or f"sqlite:///{self.data.absolute() / 'journal.db'}"

    def environment(self) -> dict[str, str]:
        """Render what was set as `SLUICE_…` variables for a child process; secrets travel by the inherited ones alone."""
        rendered = {}
        for name in self.model_fields_set - PRIVATE:
            value = getattr(self, name)
            text = ":".join(map(str, value)) if isinstance(value, list) else str(value)
            rendered[f"SLUICE_{name.upper()}"] = text
        return rendered
