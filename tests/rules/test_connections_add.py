"""`sluice connections add`: what is written is right and names no secret; what is wrong is not kept."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from connectors.catalog import load
from gateway.entrypoints import cli

CRM = """
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: https://crm.test
auth: {type: bearer}
egress: {allow_hosts: [crm.test, eu.crm.test]}
operations:
  echo: {request: {method: GET, path: /echo}, class: safe}
"""


def sluice(*words: str) -> Result:
    def role(_: object) -> int:
        return 0

    app = cli.build(cli.Roles(up=role, worker=role, api=role, journal=role))
    return CliRunner().invoke(app, ["connections", "add", *words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLUICE_CONNECTORS", raising=False)
    found = tmp_path / "connectors.d"
    found.mkdir()
    (found / "crm.yaml").write_text(CRM)
    return found


def test_a_connection_is_declared_where_the_manifests_are(folder: Path) -> None:
    words = ["crm/main", "--secret", "token=${env:T}", "--base-url", "https://eu.crm.test"]
    ran = sluice(*words)
    assert ran.exit_code == 0, ran.output
    loaded = load([folder], {"T": "t"})
    assert loaded.problems == ()
    (connection,) = loaded.catalog.connections.values()
    assert (connection.connector, connection.name, connection.base_url) == ("crm", "main", "https://eu.crm.test")
    again = sluice(*words)
    assert again.exit_code == 1
    assert "exists already" in again.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crm/main", "--secret", "token=hunter2"], "number 1 is not NAME=REFERENCE"),
        (["main"], "is not connector/name"),
        (["nope/main", "--secret", "token=${env:T}"], "there is no connector 'nope'"),
        (["crm/main", "--secret", "token=${env:T}", "--base-url", "nonsense"], "base_url"),
    ],
)
def test_what_is_wrong_is_told_and_not_kept(folder: Path, words: list[str], said: str) -> None:
    ran = sluice(*words)
    assert ran.exit_code == 2, ran.output
    assert said in ran.output
    assert "hunter2" not in ran.output
    assert [path.name for path in folder.iterdir()] == ["crm.yaml"]
