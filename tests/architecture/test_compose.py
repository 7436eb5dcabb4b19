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
    """Return what the gateway is told, with what stands for a variable that is not set."""
    return {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for name, value in compose["services"]["gateway"]["environment"].items()
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


def test_the_default_profile_is_the_gateway_and_redis_and_the_others_name_theirs(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    assert sorted(name for name, own in profiles.items() if not own) == ["gateway", "redis"]
    assert {own for named in profiles.values() for own in named} == {"kafka", "observability", "postgres"}


def test_what_is_started_by_a_profile_is_waited_for_only_where_it_is_started(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", name
            assert "healthcheck" in services[other], other
            shared = set(services[other].get("profiles", [])) - set(service.get("profiles", []))
            assert how.get("required", True) is (not shared), (name, other)


def test_nothing_listens_beyond_loopback_and_every_mounted_file_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"], source


def test_the_dashboard_and_the_rules_ask_for_metrics_and_labels_that_are_exported() -> None:
    told = (ROOT / "docs" / "telemetry.md").read_text()
    rows = re.findall(r"^\| `(sluice_\w+)` \| ([^|]*) \|", told, re.MULTILINE)
    exported = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    expressions = _expressions()
    assert len(expressions) > 20
    for expression in expressions:
        metrics = re.findall(r"sluice_\w+", expression)
        assert metrics or expression.startswith("up{"), expression
        known = [exported[re.sub(r"_bucket$", "", name)] for name in metrics]
        asked = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
        asked |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        assert asked - {"job", "le"} <= set().union(*known), expression


def _expressions() -> list[str]:
    yaml = YAML(typ="safe")
    rules = yaml.load(ROOT / "deploy" / "prometheus" / "rules.yml")
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "sluice.json").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return asked + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_prometheus_scrapes_the_gateway_where_it_listens(compose: dict[str, Any]) -> None:
    scraped = YAML(typ="safe").load(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    ((target,),) = [one["targets"] for job in scraped["scrape_configs"] for one in job["static_configs"]]
    assert target == f"gateway:{compose['services']['gateway']['environment']['SLUICE_PORT']}"


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
