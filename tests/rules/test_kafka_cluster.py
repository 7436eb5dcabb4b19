"""How the brokers are reached: what the settings come to, and what they cannot mean."""

from pathlib import Path
from typing import Any

import pytest

from gateway.kafka.cluster import Cluster, brokers_of
from gateway.policy.bus_address import Misnamed
from gateway.settings import Settings
from tests.certificates import self_signed

SECRET = "correct horse"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    self_signed(tmp_path)
    (tmp_path / "password").write_text(SECRET + "\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    return tmp_path


def made(**settings: Any) -> Cluster:
    return brokers_of(Settings(**settings))


@pytest.mark.parametrize("url", ["redis://localhost", None])
def test_a_redis_has_no_brokers(url: str | None) -> None:
    with pytest.raises(AssertionError):
        made(bus_url=url)


@pytest.mark.parametrize(
    ("url", "login", "protocol"),
    [
        ("kafka://b", False, "PLAINTEXT"),
        ("kafka+ssl://b", False, "SSL"),
        ("kafka://b", True, "SASL_PLAINTEXT"),
        ("kafka+ssl://b,c:1", True, "SASL_SSL"),
    ],
)
def test_the_scheme_and_the_login_make_the_protocol(files: Path, url: str, protocol: str, *, login: bool) -> None:
    given = {"kafka_user": "me", "kafka_password_file": files / "password"} if login else {}
    cluster = made(bus_url=url, kafka_ca=files / "certificate.pem", **given)
    options = cluster.options()
    assert options["security_protocol"] == protocol
    assert (options["ssl_context"] is not None) == url.startswith("kafka+ssl")
    assert options.get("sasl_plain_password") == (SECRET if login else None)
    assert SECRET not in repr(cluster)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kafka_ca": "none"}, "SLUICE_KAFKA_CA names .*none, which cannot be read: No such file"),
        ({"kafka_ca": "password"}, "SLUICE_KAFKA_CA names .*password, which cannot be read"),
        ({"kafka_user": "me"}, "SLUICE_KAFKA_PASSWORD_FILE is missing"),
        ({"kafka_password_file": "password"}, "SLUICE_KAFKA_USER is missing"),
        ({"kafka_user": "me", "kafka_password_file": "none"}, "SLUICE_KAFKA_PASSWORD_FILE names .*none, which cannot"),
        ({"kafka_user": "me", "kafka_password_file": "empty"}, "SLUICE_KAFKA_PASSWORD_FILE names .*empty, which is"),
        (
            {"bus_url": "kafka://b", "kafka_user": "me", "kafka_password_file": "password", "kafka_mechanism": "PLAIN"},
            "SLUICE_KAFKA_MECHANISM=PLAIN sends the password as it is",
        ),
    ],
)
def test_what_does_not_fit_is_told_by_the_name_of_its_setting(files: Path, given: dict[str, str], told: str) -> None:
    paths = {
        name: files / value if name in {"kafka_ca", "kafka_password_file"} else value for name, value in given.items()
    }
    with pytest.raises(Misnamed, match=told) as raised:
        made(**{"bus_url": "kafka+ssl://b", **paths})
    assert SECRET not in str(raised.value)
