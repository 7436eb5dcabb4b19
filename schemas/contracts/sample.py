"""A part of a large answer that shows how it differs: few items of each list, so that telling costs little however much came. Pure.

Whether an answer keeps its contract is asked of the whole; only how it differs is told from the sample.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

KEPT: Final = (64, 4, 2)
"""Items of a list that are kept, by how many lists it lies in; deeper ones keep one."""

KEYS: Final = 256
"""Keys of an object that are kept, besides those the schema speaks of."""

Path = Sequence[str | int]


def words(schema: Any) -> frozenset[str]:
    """Return every word of a schema: the name of a field that it speaks of is among them."""
    if isinstance(schema, Mapping):
        return frozenset(map(str, schema)).union(*map(words, schema.values()))
    if isinstance(schema, list):
        return frozenset[str]().union(*map(words, schema))
    return frozenset([schema]) if isinstance(schema, str) else frozenset()


def sample(answer: Any, known: frozenset[str], paths: Iterable[Path]) -> tuple[Any, bool]:
    """Return a part of an answer with what lies on the `paths`, and whether anything was left out."""
    taker = _Taker(known)
    return taker.part(answer, [path for path in paths if path], 0), taker.cut


class _Taker:
    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self.cut = False

    def part(self, value: Any, paths: list[Path], lists: int) -> Any:
        if isinstance(value, dict):
            return {name: self.part(value[name], _below(paths, name), lists) for name in self._names(value, paths)}
        if isinstance(value, list):
            return [self.part(value[at], _below(paths, at), lists + 1) for at in self._places(value, paths, lists)]
        return value

    def _names(self, value: dict[str, Any], paths: list[Path]) -> Iterable[str]:
        if len(value) <= KEYS:
            return value
        self.cut = True
        wanted = [str(path[0]) for path in paths if path[0] in value]
        spoken = [name for name in self._known if name in value]
        some = [name for name, _ in zip(value, range(KEYS), strict=False)]
        return dict.fromkeys([*wanted, *spoken, *some])

    def _places(self, value: list[Any], paths: list[Path], lists: int) -> Iterable[int]:
        most = KEPT[lists] if lists < len(KEPT) else 1
        if len(value) <= most:
            return range(len(value))
        self.cut = True
        wanted = {path[0] for path in paths if isinstance(path[0], int) and path[0] < len(value)}
        return sorted({*range(most), *wanted})


def _below(paths: list[Path], step: str | int) -> list[Path]:
    return [path[1:] for path in paths if path[0] == step and len(path) > 1]
