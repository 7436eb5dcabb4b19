"""Looks for secrets in everything that a gateway leaves behind or tells, in whatever spelling they may stand there.

`leaks` judges bytes and is for everybody; the rest gathers what there is of one installation.
"""

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from redis import Redis


@dataclass(frozen=True)
class Leak:
    """A secret that stands where it should not."""

    secret: str
    place: str
    spelling: str


@cache
def spellings(secret: str) -> Mapping[str, bytes]:
    """Return how a secret may be written, by what that is called; those in base64 are its middle, whatever stands around it."""
    plain = secret.encode()
    found = {
        "plain": plain,
        "latin-1": secret.encode("latin-1", "ignore"),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "URL": quote(secret, safe="").encode(),
        "path": quote(secret).encode(),
        "form": quote_plus(secret).encode(),
        "hex": plain.hex().encode(),
        "Python": ascii(secret)[1:-1].encode(),
        "backwards": plain[::-1],
    }
    for shift in range(3):
        middle = base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4]
        found |= {f"base64+{shift}": middle, f"base64url+{shift}": middle.translate(bytes.maketrans(b"+/", b"-_"))}
    named = {text: name for name, text in reversed(found.items()) if len(text) >= 8}
    return {name: text for text, name in named.items()}


def leaks(artefacts: Iterable[tuple[str, bytes]], secrets: Iterable[str]) -> list[Leak]:
    """Return each secret that stands in one of the artefacts: places with what was found there."""
    wanted = list(secrets)
    return [
        Leak(secret, place, spelling)
        for place, content in artefacts
        for secret in wanted
        for spelling, text in spellings(secret).items()
        if text in content
    ]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a directory; an append-only file holds everything that Redis was ever told."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def keys(redis: "Redis") -> Iterator[tuple[str, bytes]]:
    """Yield every key with its value as it is, whatever the server's own files look like."""
    client: Any = redis
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        kind = client.type(key)
        if kind != b"none":  # it has gone since
            yield f"Redis {key.decode()}", key + b"".join(_flat(readers[kind](key)))


def topics(redis: "Redis", *names: str) -> Iterator[tuple[str, bytes]]:
    """Yield whole topics."""
    client: Any = redis
    for name in names:
        yield f"topic {name}", b"".join(_flat(client.xrange(name)))


def tables(journal: Path, *names: str) -> Iterator[tuple[str, bytes]]:
    """Yield tables of a journal in SQLite; all of them when none is named."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        found = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names or found:
            rows = database.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608 - a name of our own
            yield f"journal {name}", b"".join(_flat(rows))


def _flat(value: Any) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
        case str():
            yield value.encode("utf-8", "surrogatepass")
        case dict():
            for pair in value.items():
                yield from _flat(pair)
        case list() | tuple() | set():
            for one in value:
                yield from _flat(one)
                yield b"\n"
        case _:
            yield str(value).encode()
