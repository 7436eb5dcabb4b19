"""The twin of Redis: the commands that the gateway uses, on a clock that the test holds, with the real Lua sources."""

from tests.twins.redis_twin.client import TwinClient
from tests.twins.redis_twin.server import RedisTwin

__all__ = ["RedisTwin", "TwinClient"]
