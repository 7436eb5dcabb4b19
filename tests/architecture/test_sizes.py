"""A file that fits a screen or two and a function that fits one; names that say what lives there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "connectors", "dlq", "gateway", "tests")
FILE_LINES = 400
FUNCTION_LINES = 50
BANNED_ROOMS = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "managers", "service", "services"}
BANNED_ENDINGS = ("Manager", "Service", "Helper", "Helpers", "Util", "Utils")

SOURCES = [
    ROOT / "dev",
    *(path for folder in FOLDERS for suffix in ("py", "lua") for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))),
]
PYTHON = [path for path in SOURCES if path.suffix != ".lua"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def definitions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_stays_readable(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{lines} lines: which is the second reason anyone opens this file?"


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_function_stays_on_a_screen(path: Path) -> None:
    functions = [node for node in definitions(path) if not isinstance(node, ast.ClassDef)]
    sizes = {f"{node.name}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {key: size for key, size in sizes.items() if size > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_name_says_what_lives_there(path: Path) -> None:
    rooms = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert rooms & BANNED_ROOMS == set()
    classes = [node.name for node in definitions(path) if isinstance(node, ast.ClassDef)]
    assert [cls for cls in classes if cls.endswith(BANNED_ENDINGS)] == []
