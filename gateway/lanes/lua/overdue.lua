-- overdue: take waiting calls whose deadline has passed out of their lanes, under a lease, so that the caller ends them.
-- Idempotent in effect: what was taken and not settled is reaped when its lease ends.
-- KEYS[1] shard     tag  prefix of calls, runs, parks (hashes), lane:*, ready, ready:*, parked:*, moves, deadlines, delayed, reviews,
--                   leases (zsets), fence, doubt (strings)
-- ARGV[1] most      int  how many calls to take
-- ARGV[2] lease_us  int  how long the caller may take to settle them
-- RETURN  {now_us, {id, fence, lease_us, run, body, ...}}
local shard, most, lease = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, doubt, taking
local runs, out, stirred = shard .. ':runs', {}, false

local function take(id, run)
  stirred = is_next(run.lane, id) and stir(run.lane) or stirred
  for _, part in ipairs(take_under_lease(id, run, lease)) do out[#out + 1] = part end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', shard .. ':deadlines', '-inf', now, 'LIMIT', 0, most)) do
  local packed = redis.call('HGET', runs, id)
  local run = packed and cmsgpack.unpack(packed)
  -- An attempt that has started has its full timeout; if it is deferred, its deadline is looked at again.
  if run and run.state ~= 'processing' then take(id, run) end
  redis.call('ZREM', shard .. ':deadlines', id)
end
if stirred then redis.call('PUBLISH', shard .. ':wake', 1) end
return {now, out}
