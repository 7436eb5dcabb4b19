"""How many shards a state has: written into it when it is made, and held against the setting at every start.

Another number would look for calls, limits and keys where they are not: a second call would be sent, and a limit would start full.
"""

from gateway.lanes.cluster import NoCluster
from gateway.lanes.spread.shards import Shards

KEY = "shards"


class StateUnfit(Exception):  # noqa: N818 - it names a situation
    """The state is another one than the settings say; the message says what to do, and waiting does not help."""


async def agree(shards: Shards) -> None:
    """Write the number down in a state that has none, or hold it against the one there. Raises `StateUnfit`."""
    home, ours = shards.home, len(shards.parts)
    try:
        if shards.cluster is not None:
            await shards.cluster.nodes()
        elif (await home.redis.info("cluster")).get("cluster_enabled"):
            raise StateUnfit(
                "SLUICE_REDIS_URL names a node of a Redis Cluster as if it were alone: write redis-cluster://host:port,host:port."
            )
        kept, epoch = await home.redis.mget(home.shard.key(KEY), home.shard.key("epoch"))
    except NoCluster as error:
        raise StateUnfit(
            "SLUICE_REDIS_URL names a server that is no Redis Cluster: write redis://host:port/0."
        ) from error
    # One without a number was made before there were others.
    theirs = int(kept) if kept is not None else 1 if epoch is not None else ours
    if theirs == ours and kept is None:
        before = await home.redis.set(home.shard.key(KEY), ours, nx=True, get=True)
        theirs = int(before) if before else ours
    if theirs != ours:
        raise StateUnfit(
            f"SLUICE_SHARDS says {ours}, but this state was made with {theirs}, and its calls, limits and keys lie there. "
            f"Set SLUICE_SHARDS={theirs}; for another number, let every call end and begin with an empty Redis."
        )
