-- reap: take over claims whose lease ended, under a new fence, so that the caller decides and settles them like its own.
-- Idempotent: what was taken over has a new lease; a lost reply is reaped again when that one ends.
-- KEYS[1] shard     tag  prefix of calls, runs (hashes), leases (zset), fence (string)
-- ARGV[1] most      int  how many claims to take over
-- ARGV[2] lease_us  int  how long the caller may take to settle them
-- RETURN  {now_us, {id, fence, lease_us, run, body, ...}}; run.marked says whether the lost worker had begun to send
local shard, most, lease = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local leases, runs, out = shard .. ':leases', shard .. ':runs', {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, most)) do
  local packed = redis.call('HGET', runs, id)
  if packed then
    local run = cmsgpack.unpack(packed)
    run.fence = redis.call('INCR', shard .. ':fence')
    run.lease_us = now + lease
    packed = cmsgpack.pack(run)
    redis.call('HSET', runs, id, packed)
    redis.call('ZADD', leases, run.lease_us, id)
    out[#out + 1] = id
    out[#out + 1] = run.fence
    out[#out + 1] = run.lease_us
    out[#out + 1] = packed
    out[#out + 1] = redis.call('HGET', shard .. ':calls', id)
  else
    redis.call('ZREM', leases, id)
  end
end
return {now, out}
