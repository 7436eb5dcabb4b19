"""TLS and a login at the real broker: all of it goes that way, and what does not fit is told by the setting's name."""

from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.kafka import broker as place
from tests.kafka.conftest import PASSWORD, USER
from tests.kafka.stage import Stage
from tests.kafka.test_commands import event, sluice
from tests.kafka.test_intake import sends, until
from tests.kafka.test_journal import written

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture
def secured(stage: Stage, tmp_path: Path) -> Stage:
    """A stage whose workers come in by the listener with TLS and a login; the test itself goes on using the other one."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    stage.workers.environment |= {
        "SLUICE_BUS_URL": f"kafka+ssl://localhost:{stage.broker.secured_port}",
        "SLUICE_KAFKA_CA": str(stage.broker.folder / "certificate.pem"),
        "SLUICE_KAFKA_USER": USER,
        "SLUICE_KAFKA_PASSWORD_FILE": str(secret),
    }
    return stage


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_calls_results_and_the_journal_go_over_tls_with_a_login(secured: Stage, mechanism: str, tmp_path: Path) -> None:
    stage = secured
    stage.workers.environment["SLUICE_KAFKA_MECHANISM"] = mechanism
    lines = tmp_path / "calls.jsonl"
    lines.write_text(b"\n".join(sends(0, 10)).decode(), encoding="utf-8")
    done = sluice(stage, "publish", str(lines))
    assert done.returncode == 0, done.stderr
    stage.workers.start()
    stage.workers.start_role("journal")
    assert stage.until(10)["completed"] == 10
    assert len(stage.until_told(stage.topics.results, 10)) == 10
    journal = stage.workers.folder / "data" / "journal.db"
    until(lambda: written(journal) == (10, 10))
    assert "every topic is there" in sluice(stage, "doctor", "-o", "json").stdout
    assert PASSWORD not in stage.workers.log


def test_what_does_not_let_one_in_is_told_by_the_name_of_its_setting(secured: Stage, tmp_path: Path) -> None:
    stage = secured
    wrong, other = tmp_path / "wrong", tmp_path / "other"
    wrong.write_text("no-such-password", encoding="utf-8")
    other.mkdir()
    self_signed(other)
    cases = [
        ({"SLUICE_KAFKA_PASSWORD_FILE": str(wrong)}, "SLUICE_KAFKA_PASSWORD_FILE", f"the user '{USER}'"),
        ({"SLUICE_KAFKA_CA": str(other / "certificate.pem")}, "SLUICE_KAFKA_CA", "is not trusted"),
        ({"SLUICE_KAFKA_MECHANISM": "SCRAM-SHA-256"}, "SLUICE_KAFKA_MECHANISM", "does not take this login"),
    ]
    for changed, setting, words in cases:
        done = sluice(stage, "worker", **changed)
        assert done.returncode == 2, (changed, done.stderr[-1000:])
        assert setting in done.stderr, (changed, done.stderr[-1000:])
        assert words in done.stderr, (changed, done.stderr[-1000:])
        assert "no-such-password" not in done.stderr + done.stdout
        assert PASSWORD not in done.stderr + done.stdout


def test_a_certificate_that_is_not_trusted_is_told_by_every_role(secured: Stage, tmp_path: Path) -> None:
    stage = secured
    self_signed(tmp_path)
    wrong = {"SLUICE_KAFKA_CA": str(tmp_path / "certificate.pem")}
    assert "SLUICE_KAFKA_CA" in sluice(stage, "doctor", "-o", "json", **wrong).stdout
    lines = tmp_path / "calls.jsonl"
    lines.write_text(str(event(1)).replace("'", '"'), encoding="utf-8")
    assert "SLUICE_KAFKA_CA" in sluice(stage, "publish", str(lines), **wrong).stderr
    stage.workers.environment |= wrong
    journal = stage.workers.start_role("journal")
    stage.wait_for("SLUICE_KAFKA_CA")
    assert journal.poll() is None, "it goes on trying: the broker may be mended"


@pytest.mark.parametrize(("tls", "port"), [(True, "port"), (False, "secured_port")])
def test_a_listener_that_speaks_something_else_is_waited_for_and_told(stage: Stage, port: str, *, tls: bool) -> None:
    """It may be a broker that starts behind a proxy."""
    scheme = "kafka+ssl" if tls else "kafka"
    stage.workers.environment["SLUICE_BUS_URL"] = f"{scheme}://127.0.0.1:{getattr(stage.broker, port)}"
    worker = stage.workers.start()
    stage.wait_for("closes the connection. If that goes on: it may want TLS (SLUICE_BUS_URL=kafka+ssl")
    assert worker.poll() is None


def test_a_console_consumer_of_the_same_jars_reads_the_results_over_tls(secured: Stage, tmp_path: Path) -> None:
    stage = secured
    stage.create()
    stage.workers.start()
    stage.publish(sends(0, 5))
    stage.until(5)
    stage.until_told(stage.topics.results, 5)
    login = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" password="{PASSWORD}";'
    (tmp_path / "client").write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={stage.broker.folder / 'certificate.pem'}\nsasl.jaas.config={login}\n",
        encoding="utf-8",
    )
    printed = stage.broker.run(
        place.CONSOLE_CONSUMER,
        *("--bootstrap-server", f"localhost:{stage.broker.secured_port}", "--command-config", str(tmp_path / "client")),
        *("--topic", stage.topics.results, "--from-beginning", "--max-messages", "5", "--timeout-ms", "20000"),
    )
    assert printed.count("tool.call.completed") == 5
