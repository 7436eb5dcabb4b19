-- taking: a waiting call under a lease, so that the caller ends it. The including script binds `shard` and `now`. Needs doubt.
-- Out of its lane and under a lease: only who was told the fence may end it now. Returns {id, fence, lease_us, run, body}.
local function take_under_lease(id, run, lease)
  redis.call('ZREM', shard .. ':lane:' .. run.lane, id)
  redis.call('ZREM', shard .. ':delayed', id)
  redis.call('ZREM', shard .. ':reviews', id)
  cast_doubt(run)
  run.state, run.marked = 'processing', -1
  run.fence = redis.call('INCR', shard .. ':fence')
  run.lease_us = now + lease
  local packed = cmsgpack.pack(run)
  redis.call('HSET', shard .. ':runs', id, packed)
  redis.call('ZADD', shard .. ':leases', run.lease_us, id)
  return {id, run.fence, run.lease_us, packed, redis.call('HGET', shard .. ':calls', id)}
end
