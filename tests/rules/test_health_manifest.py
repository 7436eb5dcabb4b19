"""`health` in a connector: a probe is safe, exists, takes its arguments, and is not made too often."""

from pathlib import Path

import pytest

from connectors import catalog as manifests

MANIFEST = """
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm}
base_url: https://crm.example.com
health: %s
operations:
  contacts.get:
    class: safe
    request: {method: GET, path: "/v1/contacts/{id}"}
    input: {type: object, required: [id], properties: {id: {type: string}}}
  contacts.create:
    request: {method: POST, path: /v1/contacts}
"""


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        ("{probe: contacts.get, arguments: {id: c1}}", ""),
        ("{probe: contacts.get, arguments: {id: c1}, every: 5m}", ""),
        ("{probe: contacts.gte, arguments: {id: c1}}", "there is no operation 'contacts.gte'"),
        ("{probe: contacts.create}", "must be of class safe"),
        ("{probe: contacts.get}", "do not fit"),
        ("{probe: contacts.get, arguments: {id: 7}}", "/id"),
        ("{probe: contacts.get, arguments: {id: c1}, every: 5s}", "every is at least 30s"),
        ("{prob: contacts.get}", "prob"),
        ("{probe: contacts.get, arguments: {id: c1}, every: often}", "duration"),
    ],
)
def test_a_probe_is_checked_before_it_is_ever_made(tmp_path: Path, health: str, problem: str) -> None:
    file = tmp_path / "crm.yaml"
    file.write_text(MANIFEST % health)
    loaded = manifests.load([file], {})
    assert bool(loaded.errors) == bool(problem)
    assert problem.replace("'", '"') in " ".join(map(str, loaded.errors)).replace("'", '"')
    declared = loaded.catalog.connectors.get("crm")
    assert (declared is not None and declared.manifest.health is not None) == (not problem)
