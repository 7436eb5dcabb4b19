"""Alerts of the gateway itself: something a person must look at, published once and logged. Decides nothing."""

import structlog
from redis.asyncio import Redis

from gateway.ports import Ambient
from schemas.cloudevent import CloudEvent, publishable
from schemas.moment import stamp
from schemas.topics import FIELD

log = structlog.get_logger()


class Alerts:
    """Publishes to `gateway-alerts`."""

    def __init__(self, redis: "Redis", stream: str, ambient: Ambient) -> None:
        """`stream` is the topic's name."""
        self._redis = redis
        self._stream = stream
        self._ambient = ambient

    async def publish(self, kind: str, facts: dict[str, object]) -> None:
        """Publish one alert; `facts` say what is wrong and what to do."""
        log.error(kind, **facts)
        now = stamp(self._ambient.now())
        event = CloudEvent(type=kind, id=self._ambient.new_id(), time=now, data=facts)
        await self._redis.xadd(self._stream, {FIELD: publishable(event)})
