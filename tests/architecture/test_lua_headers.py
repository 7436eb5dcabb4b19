"""A script's header is its contract: what it declares is what it uses, no more and no less."""

import re

import msgspec
import pytest

from gateway.lanes.scripts import Script, load, names
from gateway.ports import Admission, Mark, Refusal, Run, Settlement
from schemas.contracts.sighting import Sighting

SCRIPTS = [load(name) for name in names()]
SHARDED = [script for script in SCRIPTS if "shard" in script.keys]
ITEMS: dict[str, type[msgspec.Struct]] = {
    "enqueue": Admission,
    "finding": Sighting,
    "mark": Mark,
    "refuse": Refusal,
    "settle": Settlement,
}
"""What Python packs for the scripts that take a list of items."""

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def header(script: Script) -> list[str]:
    """Return the comment lines at the top, without their dashes; what is indented goes on with the line before."""
    joined: list[str] = []
    for line in script.source.splitlines()[: length(script)]:
        text = line.removeprefix("--").removeprefix(" ")
        if text.startswith("  "):
            joined[-1] += f" {text.strip()}"
        else:
            joined.append(text)
    return joined


def length(script: Script) -> int:
    """Count the comment lines at the top."""
    lines = script.source.splitlines()
    return next(number for number, line in enumerate(lines) if not line.startswith("--"))


def code(script: Script) -> list[str]:
    """Return the lines that run, without comments."""
    lines = script.source.splitlines()[length(script) :]
    return [line.partition(" -- ")[0] for line in lines if not line.strip().startswith("--")]


def binding(script: Script) -> list[str]:
    """Return the first lines: those that only give names to keys, arguments and times."""
    lines = code(script)
    return lines[
        : next(number for number, line in enumerate(lines) if not line.startswith("local ") or "function" in line)
    ]


def numbers(word: str, text: str) -> list[int]:
    return [int(found) for found in re.findall(rf"\b{word}\[(\d+)\]", text)]


@every_script
def test_the_first_word_is_the_name_of_the_verb(script: Script) -> None:
    assert re.match(rf"{script.name}: \w", header(script)[0])


@every_script
def test_keys_and_arguments_are_declared_in_their_order(script: Script) -> None:
    declared = "\n".join(header(script))
    for word, named in (("KEYS", script.keys), ("ARGV", script.arguments)):
        lines = numbers(word, "\n".join(line[:9] for line in declared.splitlines()))
        assert lines == list(range(1, len(named) + 1))
    assert script.keys


@every_script
def test_every_declaration_has_a_type_and_a_meaning(script: Script) -> None:
    for line in header(script):
        if line.startswith(("KEYS[", "ARGV[")):
            assert re.fullmatch(r"(KEYS|ARGV)\[\d\] \w+ +(tag|stream|string|int|msgpack) +\S.*", line), line


@every_script
def test_what_is_declared_is_used_and_what_is_used_is_declared(script: Script) -> None:
    body = "\n".join(code(script))
    assert sorted(set(numbers("KEYS", body))) == list(range(1, len(script.keys) + 1))
    assert sorted(set(numbers("ARGV", body))) == list(range(1, len(script.arguments) + 1))
    assert len(re.findall(r"\b(KEYS|ARGV)\b", body)) == len(script.keys) + len(script.arguments)


@every_script
def test_keys_and_arguments_get_their_names_in_the_first_lines(script: Script) -> None:
    rest = code(script)[len(binding(script)) :]
    assert [line for line in rest if re.search(r"\b(KEYS|ARGV)\b", line)] == []


@every_script
def test_a_key_is_bound_to_the_name_it_is_declared_under(script: Script) -> None:
    bound: dict[str, str] = {}
    for line in binding(script):
        left, _, right = line.removeprefix("local ").partition(" = ")
        values = re.findall(r"[\w.]*\([^()]*\)|[\w.]+\[\d\]|\{\}|[^,\s]+(?: \.\. [^,\s]+)*", right)
        bound |= dict(zip(re.findall(r"\w+", left), values, strict=False))
    for number, name in enumerate(script.keys, 1):
        assert bound[name] == f"KEYS[{number}]"


@every_script
def test_the_answers_are_declared_and_every_tag_is_among_them(script: Script) -> None:
    assert script.answers
    told = set(re.findall(r"return \{?'(\w+)'", "\n".join(code(script))))
    assert told <= set(re.findall(r'"(\w+)"', script.answers))
    declared = set(re.findall(r'"(\w+)"', script.answers))
    assert declared <= set(re.findall(r"'(\w+)'", "\n".join(code(script))))


@every_script
def test_there_is_one_clock_and_it_is_read_at_most_once(script: Script) -> None:
    body = "\n".join(code(script))
    assert body.count("'TIME'") <= 1
    assert "os.time" not in body
    assert "os.clock" not in body
    assert "random" not in body


@every_script
def test_no_script_walks_the_whole_keyspace(script: Script) -> None:
    assert set(re.findall(r"redis\.call\('([A-Z]+)'", script.source)) & {"KEYS", "SCAN", "FLUSHALL", "FLUSHDB"} == set()


def undeclared(script: Script) -> set[str]:
    """Return the names that are derived from the shard's tag and do not stand in the header."""
    derived = set(re.findall(r"shard \.\. ':(\w+)", "\n".join(code(script))))
    shard = next(line for line in header(script) if line.startswith("KEYS[1] shard"))
    return derived - set(re.findall(r"\w+", shard))


CHANNELS = {"wake", "settled", "breakers"}
"""Names of channels: nothing is stored under them."""


@pytest.mark.parametrize("script", SHARDED, ids=lambda script: script.name)
def test_every_key_that_a_script_derives_stands_in_its_header(script: Script) -> None:
    assert undeclared(script) - CHANNELS == set()


@pytest.mark.parametrize("script", SHARDED, ids=lambda script: script.name)
def test_nothing_stands_in_a_header_that_the_script_does_not_touch(script: Script) -> None:
    shard = next(line for line in header(script) if line.startswith("KEYS[1] shard"))
    listed = re.split(r",| and ", re.sub(r"\([^)]*\)", "", shard.partition("prefix of ")[2]))
    names_only = {name.strip().removesuffix(":*") for name in listed}
    assert {name for name in names_only if f"':{name}" not in script.source} == set()


def declared_fields(script: Script) -> list[str]:
    """Return the fields of an item as the header lists them; a `?` marks those that may be missing."""
    text = " ".join(line.strip() for line in header(script))
    found = re.search(r"items +msgpack +list of \{([^}]*)\}", text)
    assert found, script.name
    return [name.strip() for name in found[1].split(",")]


@pytest.mark.parametrize("name", ITEMS)
def test_the_fields_of_an_item_are_those_that_python_sends_and_the_script_reads(name: str) -> None:
    script = load(name)
    declared = {field.removesuffix("?") for field in declared_fields(script)}
    assert declared == set(ITEMS[name].__struct_fields__)
    assert set(re.findall(r"\bitem\.(\w+)", "\n".join(code(script)))) <= declared


def test_a_run_is_stored_with_the_fields_that_python_reads() -> None:
    source = load("enqueue").source
    start = source.index("local run = {")
    table = source[start : source.index("  }", start)]
    stored = set(re.findall(r"\b(\w+) = ", table)) - {"run"}
    required = {field.name for field in msgspec.structs.fields(Run) if field.required}
    assert stored - {"costs"} == required
