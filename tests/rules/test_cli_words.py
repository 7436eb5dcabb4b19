"""What the command line says before it does anything: examples in every help, and the setting that was meant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.entrypoints.cli import checks, client, options
from tests.architecture.documents import root


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        yield " ".join((*path, name)), one
        yield from commands(one, (*path, name))


def test_every_command_and_group_shows_an_example_of_itself() -> None:
    found = dict(commands(root()))
    assert len(found) > 55
    for name, one in found.items():
        assert "Example" in one.help, name
        assert f"sluice {name}" in one.help, name


def test_a_key_of_the_file_that_is_no_setting_is_told_with_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sluice.toml").write_text("prot = 1\n")
    with pytest.raises(typer.Exit) as stopped:
        options.settings()
    assert stopped.value.exit_code == 2
    assert "sluice.toml: there is no setting 'prot'; did you mean 'port'?" in capsys.readouterr().err


def test_a_variable_that_nothing_reads_is_told_and_never_its_value() -> None:
    wrong = list(checks._settings({"SLUICE_QUEUE_LIMT": "hunter2", "SLUICE_KEY": "k", "HOME": "/"}))
    assert [(one.check, one.status) for one in wrong] == [("settings", "warn")]
    assert "did you mean 'SLUICE_QUEUE_LIMIT'?" in wrong[0].detail
    assert "hunter2" not in repr(wrong)
    assert [one.status for one in checks._settings({"SLUICE_PORT": "1"})] == ["ok"]


@pytest.mark.parametrize(
    ("detail", "pointer", "message", "lines"),
    [
        ("state is one of a, b", "?state", "state is one of a, b", []),
        ("must be a duration", "/for", "must be a duration", ["at /for"]),
        ('unfit: /arguments: "id" is missing', "/arguments", '"id" is missing', []),
        ("unfit", "/arguments/id", "too short", ["/arguments/id: too short"]),
        ("unfit", "", "too short", ["/: too short"]),
    ],
)
def test_what_a_refusal_has_said_is_not_said_again(detail: str, pointer: str, message: str, lines: list[str]) -> None:
    problem = {"detail": detail, "errors": [{"pointer": pointer, "message": message}]}
    assert list(client.places(problem)) == lines
