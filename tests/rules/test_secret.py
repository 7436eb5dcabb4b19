"""A secret shows itself to nobody but `reveal`, and one that is missing says so instead of stopping the rest."""

import copy
import json
import logging
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from connectors.manifest.secret_reference import Reference
from connectors.secret import MissingSecret, Secret, resolve

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    "show",
    [repr, str, format, "{:>20}".format, "{!r}".format, lambda secret: f"{[secret]}", lambda secret: f"{secret:s}"],
)
def test_no_way_of_printing_shows_it(show: object) -> None:
    assert callable(show)
    assert HIDDEN not in show(Secret(HIDDEN))


@pytest.mark.parametrize("keep", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash, vars])
def test_no_way_of_keeping_it_works(keep: object) -> None:
    assert callable(keep)
    with pytest.raises(TypeError) as refused:
        keep(Secret(HIDDEN))
    assert HIDDEN not in str(refused.value)


def test_a_log_line_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("%s %r", Secret(HIDDEN), {"k": Secret(HIDDEN)})
    assert HIDDEN not in caplog.text


def test_reveal_gives_the_text_and_matches_compares_it() -> None:
    secret = Secret(HIDDEN)
    assert secret.reveal() == HIDDEN
    assert secret.matches(HIDDEN)
    assert not secret.matches("hunter")
    assert not secret.matches("\udcff")
    assert secret == Secret(HIDDEN)
    assert secret != HIDDEN


def found(text: str, environ: dict[str, str] | None = None) -> str:
    secret = resolve(Reference.parse(text), environ or {})
    return secret.reveal() if isinstance(secret, Secret) else f"missing {secret.reason}"


def test_a_secret_is_found_in_the_environment() -> None:
    assert found("${env:TOKEN}", {"TOKEN": HIDDEN}) == HIDDEN
    assert found("${env:TOKEN}") == "missing the environment variable TOKEN is not set"
    assert found("${env:TOKEN}", {"TOKEN": "  "}) == "missing it is empty"


def test_a_secret_is_found_in_a_file_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert found(f"${{file:{file}}}") == "missing there is no such file"
    file.write_text(HIDDEN + "\n")
    assert found(f"${{file:{file}}}") == HIDDEN
    file.write_bytes(b"\xff")
    assert found(f"${{file:{file}}}") == "missing the file is not UTF-8 text"
    file.write_bytes(b"x" * 70_000)
    assert found(f"${{file:{file}}}") == "missing the file is larger than 64 KiB"
    assert found(f"${{file:{tmp_path}}}") == "missing there is no such file"


def test_a_secret_is_found_in_the_keyring_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert "`keyring` is not installed" in found("${keyring:crm/main}")
    entries = {("crm", "main"): HIDDEN}
    monkeypatch.setitem(
        __import__("sys").modules, "keyring", SimpleNamespace(get_password=lambda *entry: entries.get(entry))
    )
    assert found("${keyring:crm/main}") == HIDDEN
    assert found("${keyring:crm/other}") == "missing the keyring has no entry crm/other"


def test_a_keyring_that_breaks_is_a_missing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: str) -> str:
        raise RuntimeError(HIDDEN)

    monkeypatch.setitem(__import__("sys").modules, "keyring", SimpleNamespace(get_password=locked))
    assert found("${keyring:crm/main}") == "missing the keyring cannot be read: RuntimeError"


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "${env:}",
        "${env:A B}",
        "${file:relative}",
        "${keyring:crm}",
        "${vault:x}",
        "x${env:A}",
        "${env:A}x",
        "",
    ],
)
def test_only_a_reference_is_a_reference_and_a_literal_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"write \$\{env:NAME\}") as refused:
        Reference.parse(text)
    assert HIDDEN not in str(refused.value)


def test_a_missing_secret_reads_as_a_sentence() -> None:
    assert str(MissingSecret("${env:A}", "it is empty")) == "${env:A}: it is empty"
