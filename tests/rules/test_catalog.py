"""What is declared is found by name, merged, and safe when something in it is wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from connectors.catalog import Agent, Catalog, Connection, Loaded, Operation, Unknown, load
from connectors.manifest.explain import explain
from connectors.manifest.json_schema import json_schema
from schemas.effect import OperationClass

# The example of the design, whole.
EXAMPLE = """\
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm, version: 1.0.0, title: Example CRM}
base_url: https://crm.example.com/
auth: {type: bearer}
egress: {allow_hosts: [CRM.example.com, eu.crm.example.com], allow_private: false}
limits:
  core:     {rate: 10/s, per: connection, mode: strict}
  tokens:   {rate: 40000/min, per: connector}
  inflight: {concurrency: 4, per: connection}
defaults:
  limits: {core: 1, inflight: 1}
  timeout: 8s
  retry: {max_attempts: 3}
  breaker: {window: 60s, min_calls: 10, failure_rate: 50%, consecutive: 5, slow: {over: 5s, rate: 80%}, open: 5s}
operations:
  contacts.create:
    title: Create a contact
    request: {method: POST, path: /v1/contacts}
    input: {type: object, required: [email], additionalProperties: false, properties: {email: {type: string, maxLength: 9}}}
    output: {type: object, required: [id], properties: {id: {type: string}}}
    class: keyed
    idempotency: {header: Idempotency-Key, window: 24h}
    contract: {on_breaking: block}
  contacts.get:
    request: {method: GET, path: "/v1/contacts/{id}", query: {per_page: 100, all: true}}
    class: safe
    timeout: 250ms
    retry: {max_attempts: 1}
    limits: {tokens: {estimate: {path: /max_tokens, plus: 500}, actual: /usage/total_tokens}}
  contacts.delete:
    request: {method: DELETE, path: "/v1/contacts/{id}"}
    approval: {required: true, timeout: 30m, on_timeout: escalate}
  contacts.import:
    request: {method: POST, path: /v1/imports}
    class: verifiable
    readback: {operation: contacts.get, arguments: {id: "{ref}"}, match: {path: /items, where: {/ref: "{idempotency_key}"}}}
---
apiVersion: sluice/v1
kind: Connection
metadata: {name: crm-main, connector: crm}
base_url: https://eu.crm.example.com/
secrets: {token: "${env:CRM_TOKEN}"}
---
apiVersion: sluice/v1
kind: Agent
metadata: {name: research-7}
key: ${env:RESEARCH_7_KEY}
allow: ["crm.contacts.*"]
---
apiVersion: sluice/v1
kind: Operator
metadata: {name: night-shift}
key: ${env:NIGHT_SHIFT_KEY}
roles: [viewer, operator, approver]
"""
ENVIRON = {"CRM_TOKEN": "t0ken", "RESEARCH_7_KEY": "k7", "NIGHT_SHIFT_KEY": "kn"}
EVENTS = """\
apiVersion: sluice/v1
kind: Connector
metadata: {name: events}
base_url: http://127.0.0.1:9000
egress: {allow_private: true}
operations: {send: {request: {method: POST, path: /send}}}
"""
OAUTH2 = (
    "{type: oauth2, grant: refresh_token, token_url: /oauth/token, scopes: [a], client_auth: post, rotation: strict}"
)

CLIENT = '{client_secret: "${env:CRM_TOKEN}", client_id:'


def loaded(folder: Path, *texts: str, **environ: str) -> Loaded:
    for index, text in enumerate(texts):
        (folder / f"{index}.yaml").write_text(text)
    return load([folder], environ or ENVIRON)


def get(catalog: Catalog, tool: str) -> Operation:
    operation = catalog.operation(tool)
    assert operation is not None
    return operation


def test_the_example_loads_without_an_error(tmp_path: Path) -> None:
    result = loaded(tmp_path, EXAMPLE)
    assert result.errors == ()
    assert sorted(result.catalog.operations) == [
        "crm.contacts.create",
        "crm.contacts.delete",
        "crm.contacts.get",
        "crm.contacts.import",
    ]
    assert result.catalog.agents["research-7"].allow == ("crm.contacts.*",)
    assert result.catalog.operators["night-shift"].roles == ("viewer", "operator", "approver")


def test_an_operation_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, EXAMPLE, EVENTS).catalog
    create, read, send = (get(catalog, tool) for tool in ("crm.contacts.create", "crm.contacts.get", "events.send"))
    assert (create.timeout_s, create.max_attempts) == (8.0, 3)
    assert (read.timeout_s, read.max_attempts) == (0.25, 1)
    assert (send.timeout_s, send.max_attempts, send.op_class) == (10.0, 5, OperationClass.UNSAFE)
    assert (create.idempotency_header, create.idempotency_window_s) == ("Idempotency-Key", 86_400)
    assert read.query == {"per_page": "100", "all": "true"}
    assert create.base_url == "https://crm.example.com"
    assert create.egress.allow_hosts == ("crm.example.com", "eu.crm.example.com")
    assert send.egress.allow_hosts == ("127.0.0.1",)
    assert create.title == "Create a contact"


def test_what_a_manifest_would_rather_say_is_named_with_its_place(tmp_path: Path) -> None:
    result = loaded(tmp_path, EXAMPLE)
    assert result.errors == ()
    told = [(problem.line, problem.message.split(": only")[0]) for problem in result.problems]
    assert told == [
        (30, "tokens: input does not require '/max_tokens', and a call without it is rejected"),
        (37, "readback: without idempotency the vendor is never told the key"),
    ]
    assert str(result.problems[1]).startswith(f"{tmp_path / '0.yaml'}:37:")


def test_an_operation_says_whether_its_calls_need_an_approval(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, EXAMPLE).catalog
    assert get(catalog, "crm.contacts.delete").approval_required
    assert not get(catalog, "crm.contacts.get").approval_required


def test_a_missing_secret_is_named_and_keeps_nothing_else_from_loading(tmp_path: Path) -> None:
    result = loaded(tmp_path, EXAMPLE, RESEARCH_7_KEY="k7")
    connection = result.catalog.connections["crm/crm-main"]
    assert result.errors == ()
    assert connection.secrets == {}
    assert connection.missing["token"].reference == "${env:CRM_TOKEN}"
    assert result.catalog.operators["night-shift"].key is None
    assert any(
        "the secret ${env:CRM_TOKEN}: the environment variable CRM_TOKEN is not set" in str(each)
        for each in result.problems
    )


def test_a_loaded_catalog_shows_no_secret(tmp_path: Path) -> None:
    shown = repr(loaded(tmp_path, EXAMPLE))
    assert not any(value in shown for value in ("t0ken", "'k7'", "'kn'"))
    assert loaded(tmp_path, EXAMPLE).catalog.connections["crm/crm-main"].secrets["token"].reveal() == "t0ken"


def test_a_file_with_an_error_adds_nothing_and_the_others_load(tmp_path: Path) -> None:
    result = loaded(tmp_path, EXAMPLE.replace("class: keyed", "class: keid"), EVENTS)
    assert sorted(result.catalog.operations) == ["events.send"]
    assert [problem.line for problem in result.errors] == [22]


@pytest.mark.parametrize(
    "broken",
    [EXAMPLE.replace("class: safe", "class: saef"), EXAMPLE + "roles: [x]\n", EXAMPLE[:-5] + "{[", "a: [\n" + EXAMPLE],
)
def test_a_mistake_in_a_file_with_an_agent_or_operator_does_not_open_the_door(tmp_path: Path, broken: str) -> None:
    catalog = loaded(tmp_path, broken, EVENTS).catalog
    (agent,), (operator,) = catalog.agents.values(), catalog.operators.values()
    assert (agent.allow, agent.key) == ((), None)
    assert (operator.roles, operator.key) == ((), None)


def test_names_are_unique_across_files_and_connections_per_connector(tmp_path: Path) -> None:
    connection = "---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {name: default, connector: %s}\n"
    result = loaded(
        tmp_path, EVENTS + connection % "events", EVENTS.replace("events", "other") + connection % "other", EVENTS
    )
    assert [(problem.line, problem.message) for problem in result.errors] == [
        (3, f"there is already a Connector 'events' at {tmp_path / '0.yaml'}:3")
    ]
    assert sorted(result.catalog.connections) == ["events/default", "other/default"]


def test_a_reference_to_a_broken_connector_is_not_a_second_error(tmp_path: Path) -> None:
    connector, connection = EXAMPLE.split("---\n")[:2]
    result = loaded(tmp_path, connector.replace("class: safe", "class: saef"), connection)
    assert len(result.errors) == 1


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ("crm.contacts.creat", "allow: there is no tool 'crm.contacts.creat' (did you mean 'crm.contacts.create'?)"),
        ("cmr.*", "allow: there is no connector 'cmr' (did you mean 'crm'?)"),
        ("crm.*", None),
        ("*.get", None),
    ],
)
def test_an_agent_that_is_allowed_what_does_not_exist_is_warned_about(
    tmp_path: Path, allow: str, told: str | None
) -> None:
    result = loaded(tmp_path, EXAMPLE.replace("crm.contacts.*", allow))
    said = [str(problem) for problem in result.problems if problem.message.startswith("allow")]
    assert [sentence.partition("warning: ")[2] for sentence in said] == ([told] if told else [])
    assert result.errors == ()


@pytest.mark.parametrize(
    ("secrets", "told"),
    [
        (
            '{tokn: "${env:CRM_TOKEN}"}',
            {"unknown secret 'tokn' for auth bearer", "auth bearer of connector 'crm' needs the secret 'token'"},
        ),
        ("{}", {"auth bearer of connector 'crm' needs the secret 'token'"}),
    ],
)
def test_a_connection_names_exactly_the_secrets_its_auth_needs(tmp_path: Path, secrets: str, told: set[str]) -> None:
    result = loaded(tmp_path, EXAMPLE.replace('{token: "${env:CRM_TOKEN}"}', secrets))
    assert {problem.message for problem in result.errors} == told


def test_files_are_read_once_hidden_and_foreign_ones_never(tmp_path: Path) -> None:
    (tmp_path / ".hidden.yaml").write_text("[")
    (tmp_path / "notes.txt").write_text("[")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.yaml").write_text("[")
    (tmp_path / "empty.yml").write_text("# nothing yet\n---\n")
    (tmp_path / "a.yaml").write_text(EVENTS)
    result = load([tmp_path, tmp_path / "a.yaml"], {})
    assert result.problems == ()
    assert list(result.catalog.operations) == ["events.send"]


# ---- choosing a connection


def catalog_of(*names: str) -> Catalog:
    return Catalog(connections={f"crm/{name}": Connection(name=name, connector="crm") for name in names})


def chosen(catalog: Catalog, operation: Operation, name: str | None) -> str | None:
    found = catalog.connection_for(operation, name)
    return found.name if isinstance(found, Connection) else found.message if isinstance(found, Unknown) else None


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (("main",), None, "main"),
        (("main", "default"), None, "default"),
        (("main", "default"), "main", "main"),
        (("a", "b"), None, "connector crm has 2 connections and none is named default: name one"),
        ((), None, "connector crm has no connection"),
        (("main",), "mian", "connector crm has no connection 'mian'"),
    ],
)
def test_a_call_uses_the_named_the_only_or_the_default_connection(
    tmp_path: Path, names: tuple[str, ...], asked: str | None, expected: str
) -> None:
    operation = get(loaded(tmp_path, EXAMPLE).catalog, "crm.contacts.get")
    assert chosen(catalog_of(*names), operation, asked) == expected


def test_a_connector_without_auth_needs_no_connection_but_uses_one_that_exists(tmp_path: Path) -> None:
    operation = get(loaded(tmp_path, EVENTS).catalog, "events.send")
    assert chosen(Catalog(), operation, None) is None
    assert chosen(Catalog(), operation, "x") == "connector events has no connection 'x'"
    only = Catalog(connections={"events/a": Connection(name="a", connector="events")})
    assert chosen(only, operation, None) == "a"


# ---- arguments


@pytest.mark.parametrize(
    ("tool", "arguments", "errors"),
    [
        ("create", {"email": "a@b.c"}, []),
        ("create", {}, [("", '"email" is a required property')]),
        ("create", {"email": "far-too-long@b.c"}, [("/email", "the value is longer than 9 characters")]),
        ("create", {"email": 7}, [("/email", 'the value is not of type "string"')]),
        ("create", {"email": "a", "x/~": 1}, [("", "Additional properties are not allowed ('x/~' was unexpected)")]),
        ("get", {"id": "c1"}, []),
        ("get", {"id": 7, "whatever": {"is": "sent"}}, []),
        ("get", {"id": True}, []),
        ("get", {}, [("/id", "the path needs this argument")]),
        ("get", {"id": 1.5}, [("/id", "the path needs text, a whole number or a boolean here")]),
        ("get", {"id": None}, [("/id", "the path needs text, a whole number or a boolean here")]),
        ("get", {"id": ["x"]}, [("/id", "the path needs text, a whole number or a boolean here")]),
        ("get", {"id": ""}, [("/id", 'the path cannot hold an empty segment, "." or ".."')]),
        ("get", {"id": ".."}, [("/id", 'the path cannot hold an empty segment, "." or ".."')]),
        ("import", {"anything": [1, {}]}, []),
    ],
)
def test_arguments_are_held_against_the_schema_and_the_path(
    tmp_path: Path, tool: str, arguments: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    found = get(loaded(tmp_path, EXAMPLE).catalog, f"crm.contacts.{tool}").argument_errors(arguments)
    assert [(error.pointer, error.message) for error in found] == errors


def test_at_most_20_errors_are_told_and_none_repeats_a_value(tmp_path: Path) -> None:
    schema = "{type: object, properties: {a: {type: array, items: {enum: [1, 2]}}}}"
    text = EVENTS.replace("path: /send}", f"path: /send}}, input: {schema}")
    found = get(loaded(tmp_path, text).catalog, "events.send").argument_errors({"a": ["hunter2"] * 50})
    assert len(found) == 20
    assert found[19].pointer == "/a/19"
    assert not any("hunter2" in error.message for error in found)


# ---- explain and the editors' schema


def test_explain_says_where_each_value_comes_from(tmp_path: Path) -> None:
    catalog, file = loaded(tmp_path, EXAMPLE, EVENTS).catalog, tmp_path / "0.yaml"
    told = {row.key: (row.value, row.origin) for row in explain(catalog, "crm.contacts.create")}
    assert told["class"] == ("keyed", f"{file}:22")
    assert told["timeout"] == ("8s", f"{file}:13")
    assert told["limits.core"] == ("1 of 10/s per connection, strict", f"{file}:12")
    assert told["limits.inflight"] == ("1 of 4 at once per connection", f"{file}:12")
    assert "limits.tokens" not in told
    assert told["breaker.slow.rate"] == ("80%", f"{file}:15")
    assert told["contract.on_breaking"] == ("block", f"{file}:24")
    assert told["idempotency.window"] == ("24h", f"{file}:23")
    assert told["base_url"] == ("https://crm.example.com/", f"{file}:4")
    assert told["input"][0].startswith('{"type":"object"')
    read = {row.key: (row.value, row.origin) for row in explain(catalog, "crm.contacts.get")}
    assert read["timeout"] == ("250ms", f"{file}:28")
    assert read["contract.on_breaking"] == ("block", "built-in default")
    weighted = "/max_tokens + 500 of 40000/min per connector, strict, settled at /usage/total_tokens"
    assert {key: told for key, told in read.items() if key.startswith("limits")} == {
        "limits.tokens": (weighted, f"{file}:30")
    }
    send = {row.key: (row.value, row.origin) for row in explain(catalog, "events.send")}
    assert send["timeout"] == ("10s", "built-in default")
    assert send["class"] == ("unsafe", "built-in default")
    assert send["egress.allow_hosts"] == ("127.0.0.1", "built-in default")
    assert explain(catalog, "crm.nothing") == []


def test_the_editors_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    schema = json.loads(json.dumps(json_schema()))
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    documents = list(YAML(typ="safe", pure=True).load_all(EXAMPLE + "---\n" + EVENTS))
    for document in documents:
        validator.validate(document)
    assert not validator.is_valid({**documents[0], "operatoins": {}})
    assert not validator.is_valid({**documents[0], "auth": {"type": "api_key"}})
    assert not validator.is_valid({**documents[1], "secrets": {"token": "hunter2"}})
    assert not validator.is_valid({**documents[3], "roles": ["root"]})


def test_an_agent_without_a_key_is_nobody_over_http() -> None:
    assert Agent(name="a").key is None
