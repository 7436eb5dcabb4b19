"""No Docker engine is at hand where the tests run, so the files are judged: against the compose schema and our own settings."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return loaded


def variables(compose: dict[str, Any]) -> dict[str, str]:
    return {
        name: str(value)
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
    }


def test_the_compose_file_keeps_the_compose_schema(compose: dict[str, Any]) -> None:
    schema = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    errors = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.validator_for(json.loads(schema)).iter_errors(compose)
    ]
    assert errors == []


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields}
    used = set(variables(compose)) | set(re.findall(r"\bSLUICE_[A-Z_]+", DOCKERFILE))
    assert used - known == set()


def test_the_settings_accept_the_values(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables(compose).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.data == Path("/data")


def test_the_gateway_is_called_healthy_by_its_own_answer_on_the_port_it_has(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    port = gateway["environment"]["SLUICE_PORT"]
    assert f"http://127.0.0.1:{port}/readyz" in gateway["healthcheck"]["test"][-1]
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"EXPOSE {port}" in DOCKERFILE


def test_a_gateway_that_listens_beyond_loopback_has_an_operator(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["environment"]["SLUICE_HOST"] == "0.0.0.0"
    operator = YAML(typ="safe").load(ROOT / "deploy" / "connectors.d" / "operator.yaml")
    assert operator["kind"] == "Operator"
    secret = operator["key"].removeprefix("${file:/run/secrets/").removesuffix("}")
    assert secret in gateway["secrets"]
    assert secret in compose["secrets"]


def test_redis_is_durable_and_evicts_nothing(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"]
    flags = dict(zip(command[1::2], command[2::2], strict=True))
    assert flags == {"--appendonly": "yes", "--appendfsync": "always", "--save": "", "--maxmemory-policy": "noeviction"}


def test_the_image_does_not_run_as_root_and_takes_only_what_exists() -> None:
    instructions = [line.split() for line in DOCKERFILE.splitlines() if line and line[0].isupper()]
    assert ["USER", "sluice"] in instructions
    last_stage = len(instructions) - 1 - next(i for i, words in enumerate(reversed(instructions)) if words[0] == "FROM")
    assert all(words[0] != "RUN" for words in instructions[instructions.index(["USER", "sluice"]) :])
    assert instructions.index(["USER", "sluice"]) > last_stage
    sources = [
        word for words in instructions if words[0] == "COPY" and "--from=build" not in words for word in words[1:-1]
    ]
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split()
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
