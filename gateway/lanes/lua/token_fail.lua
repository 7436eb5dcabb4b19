-- token_fail: give the lease back without a new version, and say how the credential stands now.
-- Idempotent: whoever does not hold the newest lease changes nothing.
-- KEYS[1] shard   tag     prefix of token:* (hash)
-- KEYS[2] events  stream  lifecycle events
-- KEYS[3] alerts  stream  what needs a person
-- ARGV[1] name    string  connector|connection
-- ARGV[2] fence   int     under which the vendor was asked
-- ARGV[3] fall    msgpack {state, detail, wait_us, tries_in_doubt}
-- ARGV[4] note    msgpack {id, time} for what is told
-- RETURN  {"noted" or "stale", moves}; moves: the changes of state made
local shard, events, alerts, name, fence = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local fall, note = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES token
if number('fence') ~= fence or number('lease_us') == 0 then return {'stale', moves} end
local to, detail = fall.state, fall.detail
redis.call('HSET', token_key, 'lease_us', 0, 'retry_us', fall.wait_us > 0 and now + fall.wait_us or 0)
redis.call('HINCRBY', token_key, 'failures', 1)
if to == 'in_doubt' then
  local doubts = redis.call('HINCRBY', token_key, 'doubts', 1)
  if fall.tries_in_doubt >= 0 and doubts > fall.tries_in_doubt then to = 'needs_consent' end
end
become(to, detail, redis.call('HGET', token_key, 'before'))
return {'noted', moves}
