"""Every mistake in a manifest is answered with a place, a sentence and, where there is one, the way out."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.catalog import load
from connectors.manifest.document import MAX_BYTES, read

# Line 1 to 12 of a sound file; the cases change one line of it, or add something behind.
SOUND = """\
apiVersion: sluice/v1
kind: Connector
metadata: {name: crm, version: 1.0.0, title: CRM}
base_url: https://crm.example.com
egress: {allow_hosts: [crm.example.com, eu.crm.example.com]}
limits: {core: {rate: 10/s}}
defaults: {timeout: 5s, limits: {core: 1}}
operations:
  contacts.get:
    request: {method: GET, path: "/v1/contacts/{id}"}
    class: safe
  contacts.create:
    request: {method: POST, path: /v1/contacts}
"""
MORE = "---\napiVersion: sluice/v1\n"
CONNECTION = MORE + "kind: Connection\nmetadata: {name: main, connector: crm}\n"

CHANGED = [
    # (line, its new text, line:col, part of the message)
    (1, "apiVersion: sluice/v2", "1:13", "this version reads apiVersion sluice/v1, not 'sluice/v2'"),
    (2, "kind: Conector", "2:7", "unknown kind 'Conector': one of Connector, Connection, Agent, Operator (did you mean 'Connector'?)"),
    (2, "kindd: Connector", "1:1", "missing key 'kind'"),
    (3, "metadata: {name: crm, versoin: 1.0.0}", "3:23", "unknown key 'versoin' (did you mean 'version'?)"),
    (3, "metadata: {name: Crm.x}", "3:18", "name: must be lower-case letters"),
    (3, "metadata: {title: CRM}", "3:1", "missing key 'name' in metadata"),
    (4, "base_url: http://crm.example.com", "4:11", "plain http is only allowed with egress.allow_private: true"),
    (4, "base_url: https://crn.example.com", "4:11", "not in egress.allow_hosts (did you mean 'crm.example.com'?)"),
    (4, "base_url: crm.example.com", "4:11", "must be an address such as https://api.example.com/v2"),
    (4, "base_url: https://crm.example.com?x=1", "4:11", "without query or fragment"),
    (4, "base_url: https://me:hunter2@crm.example.com", "4:11", "must not hold a user or a password"),
    (4, "base_url: ${env:CRM_URL}", "4:11", "only secrets can be references"),
    (4, "base_url: https://127.0.0.1", "4:11", "a loopback or private address is only allowed with egress.allow_private"),
    (4, "base_url: 7", "4:11", "base_url: must be text (put it in quotes)"),
    (5, "egress: {allow_hosts: ['https://crm.example.com']}", "5:24", "must be a host or host:port"),
    (5, "egress: {allow_private: yes}", "5:25", "allow_private: must be true or false"),
    (6, "limits: {core: {rate: 10 per s}}", "6:23", "must be a rate above zero such as 10/s"),
    (6, "limits: {core: {rate: 10/s, concurrency: 2}}", "6:10", "core: a limit is either a rate or a concurrency"),
    (6, "limits: {core: {concurrency: 2, mode: soft}}", "6:33", "only a rate has a mode"),
    (6, "limits: {core: {rate: 10/s, per: conection}}", "6:34", "'conection' is not one of connector, connection, operation (did you mean"),
    (7, "defaults: {timeout: 5 seconds}", "7:21", "must be a duration above zero such as 250ms"),
    (7, "defaults: {limits: {cor: 1}}", "7:21", "unknown limit 'cor' (did you mean 'core'?)"),
    (7, "defaults: {limits: {core: {estimat: {path: /a}, actual: /b}}}", "7:28", "unknown key 'estimat' (did you mean 'estimate'?)"),
    (6, "limits: {core: {}}", "6:10", "core: a limit is either a rate or a concurrency"),
    (7, "defaults: {limits: {core: 11}}", "7:27", "core: a cost of 11 can never be paid from 10/s: calls would wait for ever"),
    (7, "defaults: {limits: {core: -1}}", "7:27", "core: input should be greater than or equal to 0"),
    (7, "defaults: {limits: {core: {estimate: {path: /a, plus: 11}, actual: /b}}}", "7:55", "core: a cost of 11 can never be paid"),
    (7, 'defaults: {limits: {core: {estimate: {path: ""}, actual: /b}}}', "7:45", "path: must lead to one argument such as /max_tokens"),
    (7, "defaults: {breaker: {failure_rate: 0.5}}", "7:36", "must be a percentage above 0%"),
    (7, "defaults: {retry: {max_attempts: 0}}", "7:34", "max_attempts: input should be greater than or equal to 1"),
    (7, "defaults: {retry: {max_attempts: 3, backoff: 1s}}", "7:37", "unknown key 'backoff' (known here: max_attempts)"),
    (8, "operatoins:", "8:1", "unknown key 'operatoins' (did you mean 'operations'?)"),
    (9, "  contacts get:", "9:3", "must be words of letters, digits, - and _ joined by dots"),
    (10, "    request: {method: GTE, path: /v1}", "10:23", "'GTE' is not one of GET, HEAD, POST, PUT, PATCH, DELETE (did you mean 'GET'?)"),
    (10, "    request: {method: GET}", "10:5", "missing key 'path' in request"),
    (10, "    request: {method: GET, path: v1/contacts}", "10:34", "path: must start with /"),
    (10, '    request: {method: GET, path: "/v1/{id"}', "10:34", "path: a placeholder is {name}"),
    (10, '    request: {method: GET, path: "/v1/{}"}', "10:34", "path: a placeholder is {name}"),
    (10, '    request: {method: GET, path: "/v1?x=1"}', "10:34", "parameters belong in query"),
    (10, "    request: {method: GET, path: /v1/../admin}", "10:34", "must not hold empty, . or .. segments"),
    (10, "    request: {method: GET, path: /a, headers: {Authorization: x}}", "10:48", "credentials belong in auth"),
    (10, "    request: {method: GET, path: /a, headers: {Host: x}}", "10:48", "header 'Host' belongs to the gateway"),
    (10, '    request: {method: GET, path: /a, headers: {X-A: "a\\nb"}}', "10:53", "X-A: must be one line of text"),
    (11, "    class: saef", "11:12", "'saef' is not one of safe, idempotent, keyed, verifiable, unsafe (did you mean 'safe'?)"),
    (11, "    class: keyed", "11:12", "class keyed needs idempotency with the header"),
    (11, "    class: verifiable", "11:12", "class verifiable needs readback"),
    (11, "    clas: safe", "11:5", "unknown key 'clas' (did you mean 'class'?)"),
    (13, "    request: {method: POST, path: /a", "14:1", "not valid YAML: expected ',' or '}'"),
    (13, "\trequest: 1", "13:1", "not valid YAML: found character"),
]  # fmt: skip

ADDED = [
    # (text behind the sound file, line:col, part of the message); the added text starts in line 14
    ("    clazz: safe\n", "14:5", "unknown key 'clazz' (did you mean 'class'?)"),
    ("    request: {method: PUT, path: /a}\n", "14:5", "duplicate key 'request', first written in line 13"),
    ("    input: {type: objekt}\n", "14:19", "input is not a usable JSON Schema"),
    ("    input: {type: string}\n", "14:19", "input: arguments are always an object"),
    ("    output: {properties: {a: {minLength: -1}}}\n", "14:42", "output is not a usable JSON Schema: the value is less than"),
    ('    input: {properties: {a: {pattern: "(?=a)b"}}}\n', "14:39", "matched in linear time"),
    ('    input: {$ref: "https://x.example/s.json"}\n', "14:12", "Retrieval is disabled"),
    ('    input: {$ref: "#/$defs/nope"}\n', "14:12", "does not exist"),
    ("    limits: {writes: 1}\n", "14:14", "unknown limit 'writes'"),
    ("    limits: {core: 10000}\n", "14:20", "core: a cost of 10000 can never be paid from 10/s"),
    ("    timeout: 0s\n", "14:14", "timeout: must be a duration above zero"),
    ("    approval: {on_timeout: rejct}\n", "14:28", "'rejct' is not one of reject, escalate (did you mean 'reject'?)"),
    ("    contract: {on_breaking: stop}\n", "14:29", "'stop' is not one of warn, quarantine_writes, block"),
    ("    class: keyed\n    idempotency: {window: 24h}\n", "15:5", "missing key 'header' in idempotency"),
    ("    class: keyed\n    idempotency: {header: X-K}\n", "15:5", "missing key 'window' in idempotency"),
    ("    class: keyed\n    idempotency: {header: Authorization, window: 1h}\n", "15:19", "credentials belong in auth"),
    (
        "    class: verifiable\n    readback: {operation: contacts.got, match: {path: /items, where: {/ref: x}}}\n",
        "15:27",
        "readback: there is no operation 'contacts.got' in this connector (did you mean 'contacts.get'?)",
    ),
    (
        "    class: verifiable\n    readback: {operation: contacts.create, match: {path: /items, where: {/ref: x}}}\n",
        "15:27",
        "must be of class safe",
    ),
    (
        "    class: verifiable\n    readback: {operation: contacts.get, match: {path: /items, where: {/ref: x}}}\n",
        "15:63",
        "nothing in where tells one call from another: name an argument, such as {ref}",
    ),
    (
        ("    input: {additionalProperties: false, properties: {ref: {}}}\n    class: verifiable\n"
        '    readback: {operation: contacts.get, match: {path: "", where: {/ref: "{reff}"}}}\n'),
        "16:73",
        "{reff} is not among the properties that input allows (did you mean 'ref'?)",
    ),
    (
        "    class: verifiable\n    readback: {operation: contacts.get, match: {path: items, where: {/ref: x}}}\n",
        "15:55",
        "must be a JSON pointer",
    ),
    (
        '  a:\n    request: {method: GET, path: "/{idd}"}\n    input: {additionalProperties: false, properties: {id: {}}}\n',
        "15:34",
        "{idd} is not among the properties that input allows (did you mean 'id'?)",
    ),
    ("    description: *nowhere\n", "14:18", "the alias '*nowhere' names no anchor"),
    ("    description: !!python/object:os.system x\n", "14:18", "YAML tags such as 'tag:yaml.org,2002:python/object:os.system'"),
    ("    ? [a]\n    : 1\n", "14:7", "a key must be plain text"),
    ('    description: "\\ud800"\n', "14:18", "an escape stands for half a character"),
    ("    description: a\x00b\n", "14:19", "a control character"),
    ("auth: {type: apikey}\n", "14:14", "'apikey' is not one of none, api_key, bearer, basic, oauth2 (did you mean 'api_key'?)"),
    ("auth: {name: X-Key}\n", "14:1", "missing key 'type' in auth"),
    ("auth: {type: api_key, in: headr, name: X-Key}\n", "14:27", "'headr' is not one of header, query (did you mean 'header'?)"),
    ("auth: {type: bearer, token: x}\n", "14:22", "unknown key 'token'"),
    (
        "auth: {type: oauth2, grant: client_credentials, token_url: https://evil.example.com/t}\n",
        "14:60",
        "the host 'evil.example.com' is not in egress.allow_hosts",
    ),
    ("auth: {type: oauth2, grant: client_credentials, token_url: t}\n", "14:60", "or a path that starts with /"),
    ("---\n- a\n", "15:1", "a document must be a mapping"),
    (MORE + "kind: Connection\nmetadata: {name: main, connector: crn}\n", "17:35", "there is no connector 'crn' (did you mean 'crm'?)"),
    (CONNECTION + "base_url: https://us.crm.example.com\n", "18:11", "the host 'us.crm.example.com' is not in egress.allow_hosts"),
    (CONNECTION + "secrets: {token: hunter2}\n", "18:18", "token: a secret must not stand here in clear; write ${env:NAME}"),
    (CONNECTION + 'secrets: {token: "${vault:x}"}\n', "18:18", "is not a secret reference"),
    (CONNECTION + "secrets: {token: ${env:TOKEN}}\n", "18:19", 'inside {…} a reference needs quotes: "${env:NAME}"'),
    (CONNECTION + 'secrets: {token: "${env:TOKEN}"}\n', "18:11", "unknown secret 'token' for auth none"),
    (CONNECTION + CONNECTION, "21:18", "there is already a Connection 'main' at"),
    (MORE + "kind: Agent\nmetadata: {name: a}\nkey: hunter2\n", "18:6", "key: a secret must not stand here in clear"),
    (MORE + "kind: Agent\nmetadata: {name: a}\nallow: crm.*\n", "18:8", "allow: must be a list"),
    (MORE + 'kind: Operator\nmetadata: {name: o}\nkey: "${env:K}"\nroles: [admn]\n', "19:9", "'admn' is not one of viewer, operator"),
    (MORE + "kind: Operator\nmetadata: {name: o}\nroles: [admin]\n", "15:1", "missing key 'key'"),
]  # fmt: skip

WEIGHTED = "limits: {tokens: {estimate: {path: %s, plus: 5}, actual: /used}}"
OWN = "    " + WEIGHTED + "\n    input: {type: object, %s}\n"
UNREQUIRED = [
    # (pointer, rest of the input schema, warnings due)
    ("/max", "required: [max]", 0),
    ("/max", "properties: {max: {type: integer}}", 1),
    ("/max", "required: [min]", 1),
    ("/a/max", "required: [a], properties: {a: {type: object, required: [max]}}", 0),
    ("/a/max", "required: [a], properties: {a: {type: object}}", 1),
    ("/a/max", "required: [a]", 1),
    ("/a/max", "properties: {a: {required: [max]}}", 1),
    ("/a~1b", "required: [a/b]", 0),
    ("/a~01", "required: [a~1]", 0),
    ("/max", "allOf: [{required: [max]}]", 0),
    ("/a/0", "required: [a], properties: {a: {type: array}}", 1),
]

BOMB = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b",".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 9)
)
"""Nine lines that stand for 43 million values."""


def lint(folder: Path, text: str | bytes) -> list[str]:
    file = folder / "crm.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [str(problem).removeprefix(f"{file}:") for problem in load([folder], {}).errors]


def warnings(folder: Path, text: str) -> list[str]:
    file = folder / "crm.yaml"
    file.write_text(text)
    told = (str(problem).removeprefix(f"{file}:") for problem in load([folder], {}).problems)
    return [problem for problem in told if ": warning: " in problem]


def test_the_sound_file_has_no_errors(tmp_path: Path) -> None:
    assert lint(tmp_path, SOUND) == []


@pytest.mark.parametrize(("line", "new", "place", "message"), CHANGED)
def test_a_wrong_line_is_named_with_its_place(tmp_path: Path, line: int, new: str, place: str, message: str) -> None:
    lines = SOUND.splitlines()
    lines[line - 1] = new
    told = lint(tmp_path, "\n".join(lines) + "\n")
    assert any(problem.startswith(f"{place}: ") and message in problem for problem in told), told


@pytest.mark.parametrize(("added", "place", "message"), ADDED)
def test_a_wrong_addition_is_named_with_its_place(tmp_path: Path, added: str, place: str, message: str) -> None:
    told = lint(tmp_path, SOUND + added)
    assert any(problem.startswith(f"{place}: ") and message in problem for problem in told), told
    assert not any("hunter2" in problem for problem in told)


@pytest.mark.parametrize(("settle", "warned"), [("400ms", True), ("1s", False), ("5m", False)])
def test_a_look_that_comes_too_early_is_warned_of(tmp_path: Path, settle: str, *, warned: bool) -> None:
    readback = f'{{settle: {settle}, operation: contacts.get, match: {{path: "", where: {{/ref: "{{ref}}"}}}}}}'
    told = warnings(tmp_path, f"{SOUND}    class: verifiable\n    readback: {readback}\n")
    assert any("what does not show after 400ms is sent again" in problem for problem in told) == warned, told


@pytest.mark.parametrize(("pointer", "rest", "due"), UNREQUIRED)
def test_an_estimate_that_input_does_not_require_is_warned_of(
    tmp_path: Path, pointer: str, rest: str, due: int
) -> None:
    text = SOUND.replace("core: {rate: 10/s}", "core: {rate: 10/s}, tokens: {rate: 40/min}") + OWN % (pointer, rest)
    told = warnings(tmp_path, text)
    expected = f"14:40: warning: tokens: input does not require {pointer!r}, and a call without it is rejected"
    assert told == [expected] * due


def test_an_inherited_estimate_is_warned_of_at_each_operation_that_does_not_require_it(tmp_path: Path) -> None:
    weighted = WEIGHTED.replace("tokens", "core") % "/max"
    text = SOUND.replace("limits: {core: 1}", weighted)
    assert [problem.split(": ")[0] for problem in warnings(tmp_path, text)] == ["9:3", "12:3"]
    required = text.replace("    class: safe\n", "    class: safe\n    input: {required: [max]}\n")
    assert [problem.split(": ")[0] for problem in warnings(tmp_path, required)] == ["13:3"]
    assert [problem.split(": ")[0] for problem in warnings(tmp_path, required + "    limits: {}\n")] == []


def test_a_concurrency_has_no_weighted_cost_and_holds_what_it_says(tmp_path: Path) -> None:
    text = SOUND.replace("rate: 10/s", "concurrency: 10")
    message = "core: a cost of 11 can never be paid from 10 at once: calls would wait for ever"
    assert lint(tmp_path, text + "    limits: {core: 11}\n") == [f"14:20: {message}"]
    assert lint(tmp_path, text + "    limits: {core: 10}\n") == []
    weighted = "    " + WEIGHTED.replace("tokens", "core") % "/max" + "\n"
    message = "core: a concurrency counts calls; only a rate has weighted costs"
    assert lint(tmp_path, text + weighted) == [f"14:14: {message}"]


@pytest.mark.parametrize("limit", ["{rate: 1/s, mode: soft}", "{rate: 1/d}", "{concurrency: 1}"])
def test_a_limit_may_hold_one(tmp_path: Path, limit: str) -> None:
    text = SOUND.replace("{rate: 10/s}", limit)
    assert (lint(tmp_path, text), warnings(tmp_path, text)) == ([], [])


def test_all_errors_of_a_file_are_told_at_once_and_in_order(tmp_path: Path) -> None:
    text = (
        SOUND.replace("versoin", "x").replace("title:", "titel:").replace("class: safe", "class: keyed")
        + "    limits: {x: 1}\n"
    )
    told = lint(tmp_path, text + "---\nkind: Nothing\n---\na: [\n")
    assert [problem.split(":")[0] for problem in told] == ["3", "11", "14", "16", "19"]


@pytest.mark.parametrize(
    ("raw", "place", "message"),
    [
        (b"a: 1\nb: \xff\n", "2:4", "the file is not UTF-8 from here on"),
        (b"#" * (MAX_BYTES + 1), "1:1", "the file is larger than 1024 KiB"),
        (b"[" * 1000, "1:66", "nested deeper than 64 levels"),
        (b"- " * 1000, "1:131", "nested deeper than 64 levels"),
        (b"a: &a [*a]\n", "1:8", "names no anchor that ends before it"),
        (b"a: [" + b"1," * 30_000 + b"*a]", "1:", "names no anchor"),
        (BOMB, "6:", "more than 100000 values, aliases expanded"),
        (b'"\\U00110000": 1', "1:", "not valid YAML"),
    ],
    ids=["not-utf-8", "too-large", "deep-flow", "deep-block", "self", "nowhere", "bomb", "no-character"],
)  # fmt: skip
def test_a_hostile_file_is_refused_with_a_place(tmp_path: Path, raw: bytes, place: str, message: str) -> None:
    (told,) = lint(tmp_path, raw)
    assert told.startswith(place)
    assert message in told


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, len(SOUND)),
    cut=st.integers(0, 20),
    put=st.text(alphabet="{}[]:,-&*!?|>'\"%@` \n\tab1~#$\u2028\ud7ff", max_size=6),
)
def test_whatever_is_typed_ends_in_problems_never_in_an_exception(tmp_path: Path, at: int, cut: int, put: str) -> None:
    lint(tmp_path, SOUND[:at] + put + SOUND[at + cut :])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_can_be_read(raw: bytes) -> None:
    read("x.yaml", raw)


def test_a_missing_place_and_an_unreadable_one_are_problems(tmp_path: Path) -> None:
    (told,) = load([tmp_path / "nowhere"], {}).errors
    assert str(told) == f"{tmp_path / 'nowhere'}:1:1: there is no such file or directory"
