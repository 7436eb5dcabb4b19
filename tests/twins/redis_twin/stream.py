"""Streams with groups: entries, who was given which, and when."""

from dataclasses import dataclass, field

from redis.exceptions import ResponseError

Id = tuple[int, int]
ZERO: Id = (0, 0)
LAST: Id = (2**64 - 1, 2**64 - 1)


@dataclass(slots=True)
class Consumer:
    """When it last asked, and when it last got something."""

    seen_ms: int
    active_ms: int = -1


@dataclass(slots=True)
class Given:
    """An entry that was delivered and not acknowledged."""

    consumer: bytes
    at_ms: int
    times: int


@dataclass(slots=True)
class Group:
    """How far a group has read, and what is pending."""

    last: Id
    read: int | None
    pending: dict[Id, Given] = field(default_factory=dict)
    consumers: dict[bytes, Consumer] = field(default_factory=dict)

    def consumer(self, name: bytes, now_ms: int) -> Consumer:
        """Return a consumer that is here now."""
        found = self.consumers.setdefault(name, Consumer(now_ms))
        found.seen_ms = now_ms
        return found

    def ordered(self) -> list[tuple[Id, Given]]:
        """Return what is pending, oldest first."""
        return sorted(self.pending.items())


@dataclass(slots=True)
class Stream:
    """Entries in the order of their ids."""

    entries: dict[Id, list[bytes]] = field(default_factory=dict)
    last: Id = ZERO
    added: int = 0
    groups: dict[bytes, Group] = field(default_factory=dict)

    def add(self, fields: list[bytes], now_ms: int) -> Id:
        """Add an entry under the next id."""
        ms, sequence = self.last
        self.last = (now_ms, 0) if now_ms > ms else (ms, sequence + 1)
        self.entries[self.last] = fields
        self.added += 1
        return self.last

    def between(self, first: Id, last: Id, most: int | None = None) -> list[tuple[Id, list[bytes]]]:
        """Return entries from `first` to `last`, both included."""
        found = [(key, fields) for key, fields in self.entries.items() if first <= key <= last]
        return found if most is None else found[:most]

    def trim(self, floor: Id) -> int:
        """Forget entries below `floor`."""
        below = [key for key in self.entries if key < floor]
        for key in below:
            del self.entries[key]
        return len(below)

    def group(self, name: bytes, key: bytes) -> Group:
        """Return a group, which must be there."""
        found = self.groups.get(name)
        if found is None:
            raise nogroup(key, name)
        return found


def nogroup(key: bytes, name: bytes) -> ResponseError:
    """Say that a group, or its stream, is not there."""
    told = f"No such key '{key.decode()}' or consumer group '{name.decode()}'"
    return ResponseError(f"NOGROUP {told}")


def read_id(text: bytes, missing: int = 0) -> Id:
    """Read an id; `missing` stands for a sequence that is left out."""
    if text == b"-":
        return ZERO
    if text == b"+":
        return LAST
    ms, dash, sequence = text.partition(b"-")
    return int(ms), int(sequence) if dash else missing


def shown(key: Id) -> bytes:
    """Write an id."""
    return b"%d-%d" % key
