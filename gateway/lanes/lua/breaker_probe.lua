-- breaker_probe: take the one place of an open breaker whose time has passed, to find out whether the vendor is well again.
-- Idempotent: whoever holds the place gets it again. The place of a process that died is free when its lease ends.
-- KEYS[1] shard       tag     prefix of standings, breaker:* (hashes)
-- KEYS[2] events      stream  lifecycle events
-- ARGV[1] key         string  connector|origin
-- ARGV[2] generation  int     the generation that is probed
-- ARGV[3] worker      string  who asks: one process probes once at a time
-- ARGV[4] token       string  names this probe
-- ARGV[5] lease_us    int     how long it may take
-- ARGV[6] event       string  the event that tells of the first probe
-- RETURN  {"begun" or "granted" or "busy" or "stale", now_us, packed standing}; begun: it is half-open because of this
local shard, events = KEYS[1], KEYS[2]
local key, generation, worker, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local lease, event = tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local packed = redis.call('HGET', shard .. ':standings', key)
if not packed then return {'stale', now, ''} end
local standing = cmsgpack.unpack(packed)
if standing.generation ~= generation or standing.state == 'closed' or standing.until_us == 0 then return {'stale', now, packed} end
if standing.until_us > now then return {'busy', now, packed} end
local place = shard .. ':breaker:' .. key
local held = redis.call('HMGET', place, 'worker', 'lease_us')
if held[1] and held[1] ~= worker and tonumber(held[2]) > now then return {'busy', now, packed} end
local begins = standing.state == 'open'
if begins then
  redis.call('XADD', events, '*', 'data', event)
  standing.state, standing.revision, standing.since_us = 'half_open', standing.revision + 1, now
  packed = cmsgpack.pack(standing)
  redis.call('HSET', shard .. ':standings', key, packed)
  redis.call('PUBLISH', shard .. ':breakers', cmsgpack.pack({key = key, now_us = now, standing = standing}))
end
redis.call('HSET', place, 'worker', worker, 'token', token, 'lease_us', now + lease)
return {begins and 'begun' or 'granted', now, packed}
