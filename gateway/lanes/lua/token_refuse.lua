-- token_refuse: note that the vendor's API refused a version. It is replaced once; if the next one is refused soon, the credential rests.
-- Idempotent: a version that is not the newest, or was refused before, changes nothing.
-- KEYS[1] shard    tag     prefix of token:* (hash)
-- KEYS[2] events   stream  lifecycle events
-- KEYS[3] alerts   stream  what needs a person
-- ARGV[1] name     string  connector|connection
-- ARGV[2] version  int     that was refused
-- ARGV[3] wait_us  int     how long it rests
-- ARGV[4] soon_us  int     how soon after its issue is soon
-- ARGV[5] note     msgpack {id, time} for what is told
-- RETURN  {"moved" or "stale" or "waits", moves}; moves: the changes of state made
local shard, events, alerts, name, version = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local wait, soon, note = tonumber(ARGV[3]), tonumber(ARGV[4]), cmsgpack.unpack(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES token
if number('version') ~= version or SHUT[state_of()] then return {'moved', moves} end
if number('refused') == 1 then return {'waits', moves} end
if number('stale') == 1 then return {'stale', moves} end
local refusals = redis.call('HINCRBY', token_key, 'refusals', 1)
if refusals > 1 and now - number('issued_us') < soon and state_of() == 'active' then
  redis.call('HSET', token_key, 'refused', 1, 'retry_us', now + wait)
  become('backoff', 'the vendor refused one new token after another')
  return {'waits', moves}
end
redis.call('HSET', token_key, 'stale', 1)
return {'stale', moves}
