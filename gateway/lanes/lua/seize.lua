-- seize: take one waiting call out of its lane under a lease, to cancel it; a call that is being processed is left alone.
-- Idempotent in effect: what was seized and not settled is reaped when its lease ends and waits again.
-- KEYS[1] shard     tag     prefix of calls, runs, parks (hashes), lane:*, ready, ready:*, parked:*, moves, delayed, reviews,
--                           leases (zsets), fence, doubt (strings)
-- ARGV[1] id        string  the call
-- ARGV[2] lease_us  int     how long the caller may take to settle it
-- RETURN  {"seized", now_us, {id, fence, lease_us, run, body}} | {"busy", state} | {"gone"}
local shard, id, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, doubt, taking
local packed = redis.call('HGET', shard .. ':runs', id)
if not packed then return {'gone'} end
local run = cmsgpack.unpack(packed)
if run.state == 'processing' then return {'busy', run.state} end
if is_next(run.lane, id) and stir(run.lane) then redis.call('PUBLISH', shard .. ':wake', 1) end
return {'seized', now, take_under_lease(id, run, lease)}
