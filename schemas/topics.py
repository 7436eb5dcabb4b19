"""Every topic, stream and key name, once. Keys of one shard share a hash tag so that a script may touch them all."""

from dataclasses import dataclass

GROUP = "sluice"
"""The consumer group of every subscriber of ours."""

RELAY = "relay"
"""The group whose place on a stream says how far it was sent on, where events travel on another bus."""

FIELD = "data"
"""The one field of a stream entry that holds the structured CloudEvent."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The five topics under their (usually empty) prefix."""

    prefix: str = ""

    @property
    def calls(self) -> str:
        """Tool-call events in."""
        return f"{self.prefix}tool-calls"

    @property
    def results(self) -> str:
        """One result event per call that reached a terminal state."""
        return f"{self.prefix}tool-results"

    @property
    def events(self) -> str:
        """Lifecycle events."""
        return f"{self.prefix}tool-events"

    @property
    def letters(self) -> str:
        """Dead letters."""
        return f"{self.prefix}dead-letters"

    @property
    def alerts(self) -> str:
        """Alerts of the gateway itself."""
        return f"{self.prefix}gateway-alerts"

    @property
    def outgoing(self) -> tuple[str, ...]:
        """What the gateway writes."""
        return (self.results, self.events, self.letters, self.alerts)

    @property
    def followed(self) -> tuple[str, ...]:
        """What the journal reads."""
        return (self.events, self.results, self.letters)


@dataclass(frozen=True, slots=True)
class Shard:
    """The key names of one shard; the scripts derive theirs from `tag`, so the two must agree (tested)."""

    prefix: str = ""
    """That of the topics, so that two installations on one Redis share nothing."""
    number: int = 0

    @property
    def tag(self) -> str:
        """The prefix with the hash tag that keeps the shard in one cluster slot."""
        return f"{{{self.prefix}s{self.number}}}"

    def key(self, name: str) -> str:
        """Return the full name of a key of this shard."""
        return f"{self.tag}:{name}"

    def answer(self, call: str) -> str:
        """The stored answer of a call that ended."""
        return self.key(f"answer:{call}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEntry:
    """One entry of a topic, as it was read and not yet acknowledged."""

    topic: str
    id: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """How far our group is behind on one topic."""

    topic: str
    entries: int
    """Unread, and read but not acknowledged."""
    consumers: int
    oldest_us: int | None
    """When the oldest of them was written."""
