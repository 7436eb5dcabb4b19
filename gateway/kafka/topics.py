"""The topics on Kafka: created where they are missing, looked at where they are there. What cannot be so is told in a sentence."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from gateway.kafka.cluster import REQUEST_MS, Cluster, refusal

RECORD_BYTES: Final = 8 << 20
"""Largest record of a topic that we create: a result and its letter hold what a vendor answered."""

DEFAULT_RECORD_BYTES: Final = 1_048_588
"""A topic's largest record where nobody has said otherwise, and we may not ask."""

COPIES: Final = 3
"""Of each record, where there are so many brokers; then two of them must have it before it is acknowledged."""

AWAY: Final = (KafkaError, OSError, TimeoutError)
"""Whatever comes instead of an answer."""


class Unfit(Exception):  # noqa: N818 - it names a situation
    """A topic is not there and may not be made, or the brokers do not let us in; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The topics, and what those get that are created."""

    names: Sequence[str]
    partitions: int
    copies: int | None = None
    """Of each record; None: `COPIES`, if there are so many brokers."""


async def ensure(cluster: Cluster, wanted: Wanted) -> int:
    """Create what is missing; returns the largest record that every topic takes. Raises `Unfit`, or one of `AWAY`."""
    async with _admin(cluster) as admin:
        missing = await _missing(admin, wanted.names)
        if missing:
            await _create(admin, missing, wanted)
        return await _largest(admin, wanted.names)


async def there(cluster: Cluster) -> set[str]:
    """List the topics; raises `Unfit`, or one of `AWAY`."""
    async with _admin(cluster) as admin:
        return set(await admin.list_topics())


@contextlib.asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(client_id="sluice", **cluster.options())
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError as error:
        # The library only says that it found no way in.
        told = await refusal(cluster)
        if told is None:
            raise
        raise (Unfit if told.sure else KafkaConnectionError)(told.why) from error
    finally:
        with contextlib.suppress(*AWAY):
            await admin.close()


async def _missing(admin: Any, names: Sequence[str]) -> list[str]:
    # All topics are asked for, and not these: a broker may create what it is asked about.
    there = set(await admin.list_topics())
    return [name for name in names if name not in there]


async def _create(admin: Any, names: Sequence[str], wanted: Wanted) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    copies = wanted.copies or min(COPIES, brokers)
    configs = {"max.message.bytes": str(RECORD_BYTES)} | ({"min.insync.replicas": "2"} if copies >= COPIES else {})
    answer = await admin.create_topics(
        [NewTopic(name, wanted.partitions, copies, topic_configs=configs) for name in names], timeout_ms=REQUEST_MS
    )
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code == 0 or error is TopicAlreadyExistsError:  # another process was quicker
            continue
        if getattr(error, "retriable", False):
            raise error(f"topic {name}")
        if error is InvalidReplicationFactorError:
            raise Unfit(
                f"The topic {name} cannot have {copies} copies: {brokers} brokers are there. Correct SLUICE_KAFKA_COPIES, or start more."
            )
        raise Unfit(
            f"The topic {name} is missing on Kafka, and it could not be created: {error.__name__}. Create it "
            f"(kafka-topics.sh --create --topic {name} --partitions {wanted.partitions}), or allow this client to."
        )


async def _largest(admin: Any, names: Sequence[str]) -> int:
    """Ask; who may not ask takes the default for true."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"max.message.bytes": ""}) for name in names]
    try:
        answers = await admin.describe_configs(wanted)
    except KafkaError:
        return DEFAULT_RECORD_BYTES
    found = [
        int(entry[1])
        for answer in answers
        for code, _, _, _, entries in answer.resources
        if code == 0
        for entry in entries
        if entry[0] == "max.message.bytes"
    ]
    return min(found) if len(found) == len(names) else min([DEFAULT_RECORD_BYTES, *found])
