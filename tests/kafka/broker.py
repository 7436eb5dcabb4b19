"""A real Apache Kafka of one's own: its jars by Maven coordinates into a cache, one KRaft node on the loopback, its data in a directory.

Needs Java 17 and Maven. Which registry the jars come from is Maven's own configuration.
"""

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gateway.lifeline import bind_to

VERSION = "4.3.1"
SCALA = "2.13"
LOG4J = "2.25.1"
OLDEST_JAVA = 17

START_WITHIN_S = 90
"""A ceiling, not an expectation: the node is looked at until it answers."""

FETCH_WITHIN_S = 600

JVM = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""A small heap, and no time spent on what only pays after minutes."""

ARTIFACTS = (
    ("org.apache.kafka", f"kafka_{SCALA}", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),  # the console programs
    ("org.apache.logging.log4j", "log4j-core", LOG4J),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
)

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
TOPICS = "org.apache.kafka.tools.TopicCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{secured}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL
log.dirs={data}
offsets.topic.replication.factor={nodes}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
num.partitions=4
"""

SECURED = """\
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={folder}/keystore.pem
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
"""
"""What is added for a listener that only lets one user in, over TLS."""

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class KafkaMissing(Exception):  # noqa: N818 - it names a situation
    """There can be no broker here; the message says what is missing."""


class KafkaFailed(Exception):  # noqa: N818 - as above
    """The broker did not start; the message is the end of its log."""


def missing() -> str | None:
    """Say why there can be no broker here; None: there can."""
    java = shutil.which("java")
    if java is None:
        return f"Java {OLDEST_JAVA} is missing (Debian: apt-get install -y openjdk-{OLDEST_JAVA}-jre-headless)"
    if (found := _java_version(java)) < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} is missing: {java} is {found or 'of no known version'}"
    if shutil.which("mvn") is None and not _fetched().exists():
        return "Maven is missing, which fetches the broker (Debian: apt-get install -y maven)"
    return None


def jars() -> Path:
    """Return the directory of the jars; the first time they are fetched. Raises `KafkaMissing`."""
    done = _fetched()
    if why := missing():
        raise KafkaMissing(why)
    if not done.exists():
        _fetch(done.parent)
        done.touch()
    return done.parent / "lib"


def _fetched() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sluice" / f"kafka-{VERSION}" / "fetched"


def _java_version(java: str) -> int:
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    number = told.partition('"')[2].partition(".")[0]
    return int(number) if number.isdigit() else 0


def _fetch(folder: Path) -> None:
    wanted = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in ARTIFACTS
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        Path(work, "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>sluice</groupId><artifactId>broker</artifactId>"
            f"<version>1</version><packaging>pom</packaging><dependencies>{wanted}</dependencies></project>",
            encoding="utf-8",
        )
        command = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
        done = subprocess.run(
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FETCH_WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise KafkaMissing(f"Maven could not fetch Kafka {VERSION}: {done.stdout[-800:].strip()}")
        shutil.rmtree(folder / "lib", ignore_errors=True)
        shutil.move(Path(work, "lib"), folder / "lib")


def free_ports(count: int) -> list[int]:
    """Return so many ports of the loopback that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(door.getsockname()[1]) for door in doors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """Who is let in by the listener with TLS, and what that listener shows."""

    user: str
    password: str
    keystore: bytes
    """Certificate and private key, in PEM."""


class KafkaBroker:
    """One node that is broker and controller; its ports and data stay the same over kills and restarts."""

    def __init__(self, folder: Path, *, secured: Secured | None = None, node: int = 1) -> None:
        """`folder` is the node's own: configuration, data, log."""
        self.folder = folder
        self.node = node
        self.port, self.controller, self.secured_port = free_ports(3)
        self.peers: list[KafkaBroker] = [self]
        """All nodes of its cluster, set before the first start."""
        self.cluster = ""
        """The cluster's name; empty: made at the first start."""
        self._secured = secured
        self._process: subprocess.Popen[bytes] | None = None
        self.started_in_s = 0.0
        """How long the last start took."""

    @property
    def servers(self) -> str:
        """The bootstrap addresses."""
        return ",".join(f"127.0.0.1:{peer.port}" for peer in self.peers)

    @cached_property
    def _jars(self) -> Path:
        return jars()

    @property
    def log(self) -> str:
        """What the node wrote."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The node's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers; raises `KafkaFailed`."""
        self.launch()()

    def launch(self) -> Callable[[], None]:
        """Start; what is returned waits until it answers, and raises `KafkaFailed`."""
        began = time.monotonic()
        if not (self.folder / "server.properties").exists():
            self._format()
        before = self.log.count("Kafka Server started")
        with (self.folder / "log").open("ab") as log:
            command = self.command("kafka.Kafka", str(self.folder / "server.properties"))
            self._process = process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=bind_to(os.getpid()),  # noqa: PLW1509 - it does nothing that a fork forbids
            )

        def wait() -> None:
            while self.log.count("Kafka Server started") == before:
                if process.poll() is not None or time.monotonic() - began > START_WITHIN_S:
                    self.kill()
                    raise KafkaFailed(self.log[-2000:])
                time.sleep(0.05)
            self.started_in_s = time.monotonic() - began

        return wait

    def stop(self) -> None:
        """Stop gently; a node that does not is killed."""
        if self._process is not None and self.running:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill it; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it and start it again on the same ports and data."""
        self.kill()
        self.start()

    def suspend(self) -> None:
        """Keep it from running: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return how one of Kafka's own programs is started."""
        settings = [f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"]
        return ["java", *JVM, *settings, "-cp", f"{self._jars}/*", program, *arguments]

    def run(self, program: str, *arguments: str, given: str = "", within_s: float = 60) -> str:
        """Run one of Kafka's own programs to its end and return what it printed."""
        done = subprocess.run(
            self.command(program, *arguments),
            input=given,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        assert done.returncode == 0, (program, done.stdout[-1000:], done.stderr[-1000:])
        return done.stdout

    def _format(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        draft = self.folder / "server.properties.new"
        draft.write_text(self._properties(), encoding="utf-8")
        cluster = self.cluster or base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        login = [] if self._secured is None else ["--add-scram", self._scram(self._secured)]
        self.run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(draft), *login)
        draft.rename(self.folder / "server.properties")

    def _properties(self) -> str:
        text = PROPERTIES.format(
            node=self.node,
            nodes=len(self.peers),
            voters=",".join(f"{peer.node}@127.0.0.1:{peer.controller}" for peer in self.peers),
            port=self.port,
            controller=self.controller,
            secured=f",SECURED://localhost:{self.secured_port}" if self._secured is not None else "",
            data=self.folder / "data",
        )
        if self._secured is None:
            return text
        (self.folder / "keystore.pem").write_bytes(self._secured.keystore)
        return text + SECURED.format(folder=self.folder, user=self._secured.user, password=self._secured.password)

    @staticmethod
    def _scram(secured: Secured) -> str:
        return f"SCRAM-SHA-512=[name={secured.user},password={secured.password}]"


def several(folder: Path, count: int) -> list[KafkaBroker]:
    """Make the nodes of one cluster, and start them; raises `KafkaFailed`."""
    nodes = [KafkaBroker(folder / str(number), node=number) for number in range(1, count + 1)]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    for node in nodes:
        node.peers, node.cluster = nodes, cluster
    try:
        for wait in [node.launch() for node in nodes]:
            wait()
    except BaseException:
        for node in nodes:
            node.kill()
        raise
    return nodes


def main() -> int:
    """Run a broker until Ctrl-C, and say how to reach it."""
    if why := missing():
        print(f"There can be no Kafka here: {why}.", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    folder = Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
    broker = KafkaBroker(folder)
    try:
        print(f"Apache Kafka {VERSION}: jars in {jars()}", file=sys.stderr, flush=True)
        broker.start()
        print(_told(broker), flush=True)
        while broker.running:
            time.sleep(0.5)
        print(broker.log[-2000:], file=sys.stderr)
        return 1
    except (KafkaMissing, KafkaFailed) as error:
        print(f"Kafka did not start: {error}", file=sys.stderr)
        return 1
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _told(broker: KafkaBroker) -> str:
    java = f"java -cp '{jars()}/*'"
    reach = f"--bootstrap-server {broker.servers}"
    return "\n".join(
        [
            f"Kafka is up after {broker.started_in_s:.1f} s, with data in {broker.folder}.",
            f"  Address    {broker.servers}",
            f"  Sluice     SLUICE_BUS_URL=kafka://{broker.servers} ./dev up",
            f"  Publish    {java} {CONSOLE_PRODUCER} {reach} --topic tool-calls",
            f"  Results    {java} {CONSOLE_CONSUMER} {reach} --topic tool-results --from-beginning",
            f"  Topics     {java} {TOPICS} {reach} --list",
            f"  Groups     {java} {GROUPS} {reach} --describe --all-groups",
            "Ctrl-C stops it and removes its data.",
        ]
    )
