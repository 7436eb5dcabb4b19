"""The house: which rooms there are at the top, what ./dev may lean on, and that nothing is left for later in a comment."""

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"schemas", "connectors", "dlq", "gateway"}
FOLDERS = PACKAGES | {"tests", "bench", "deploy", "docs", "examples", ".ci"}
FILES = {
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "constraints.txt",
    "dev",
    "docker-compose.yml",
    "pyproject.toml",
    ".editorconfig",
    ".gitignore",
}
TEXT = {".py", ".lua", ".md", ".toml", ".yml", ".yaml", ".txt", ""}
LATER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
IGNORED = [
    line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line and line[0] != "#"
]


def ours(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name != ".git" and not any(fnmatch(path.name, pattern) for pattern in IGNORED):
            yield path


def files(folder: Path) -> Iterator[Path]:
    for path in ours(folder):
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def test_the_top_level_is_what_the_design_says() -> None:
    entries = {path.name + ("/" if path.is_dir() else "") for path in ours(ROOT)}
    assert entries - FILES - {f"{folder}/" for folder in FOLDERS} == set()


def test_every_package_says_what_it_is_for() -> None:
    for package in PACKAGES:
        tree = ast.parse((ROOT / package / "__init__.py").read_text())
        assert ast.get_docstring(tree), package


def test_nothing_is_left_for_later_in_a_comment() -> None:
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files(ROOT)
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LATER.search(line)
    ]
    assert left == []


def test_the_set_up_needs_nothing_but_python() -> None:
    tree = ast.parse(
        (ROOT / "dev").read_text(), feature_version=(3, 7)
    )  # an old Python must be able to say that it is old
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in imported} <= sys.stdlib_module_names
    for script in ("dev", ".ci/run"):
        assert os.access(ROOT / script, os.X_OK), script


def test_every_dependency_is_pinned_and_no_place_is_named() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.\-]+==[0-9a-z.]+( ; .+)?", line) for line in lines)
    pinned = {line.partition("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=!; ]", requirement)[0].lower().replace(".", "-") for requirement in wanted}
    assert names - {name.replace(".", "-") for name in pinned} == set()
