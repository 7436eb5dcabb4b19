-- reap: take over claims whose lease ended, under a new fence, so that the caller decides and settles them like its own.
-- Idempotent: what was taken over has a new lease; a lost reply is reaped again when that one ends.
-- When nobody reaped for a while, Redis or every worker was away: leases ended that live workers could not settle, so nothing
-- is taken over until they have had time to. A death in that time is only found a little later.
-- A copy that took over may miss the mark of a claim that was made before: without one it counts as sent.
-- KEYS[1] shard     tag  prefix of calls, runs (hashes), leases (zset), fence, reaped, hold, forgot, branch (strings)
-- ARGV[1] most      int  how many claims to take over
-- ARGV[2] lease_us  int  how long the caller may take to settle them
-- ARGV[3] gap_us    int  time without reaping after which it holds off
-- ARGV[4] hold_us   int  how long it holds off
-- RETURN  {now_us, {id, fence, lease_us, run, body, ...}}; run.marked says whether the lost worker had begun to send
local shard, most, lease = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local gap, hold = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES standing
local leases, runs, out = shard .. ':leases', shard .. ':runs', {}

local reaped = tonumber(redis.call('GET', shard .. ':reaped') or '0')
redis.call('SET', shard .. ':reaped', string.format('%.0f', now))
if now - reaped > gap then redis.call('SET', shard .. ':hold', string.format('%.0f', now + hold)) end
if now < tonumber(redis.call('GET', shard .. ':hold') or '0') or took_over() then return {now, out} end
local forgot = tonumber(string.match(redis.call('GET', shard .. ':forgot') or '0', '^%d+'))

for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, most)) do
  local packed = redis.call('HGET', runs, id)
  if packed then
    local run = cmsgpack.unpack(packed)
    if run.marked == 0 and run.since < forgot then run.marked = run.fence end
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
