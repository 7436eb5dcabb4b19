-- token_commit: keep a new version, if nobody began or wrote after the caller; it is stored before anybody uses it.
-- Idempotent: the same version under the same fence is kept once.
-- KEYS[1] shard   tag     prefix of token:* (hash)
-- KEYS[2] events  stream  lifecycle events
-- KEYS[3] alerts  stream  what needs a person
-- ARGV[1] name    string  connector|connection
-- ARGV[2] fence   int     under which the vendor was asked
-- ARGV[3] sealed  string  the tokens
-- ARGV[4] fresh   msgpack {version, key_id, issued_us, expires_us, scope, detail, stale}
-- ARGV[5] note    msgpack {id, time} for what is told
-- RETURN  {"kept" or "stale", moves}; moves: the changes of state made
local shard, events, alerts, name, fence = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local sealed, fresh, note = ARGV[3], cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES token
-- Redis has forgotten everything and nobody has begun since: what the caller has is all there is of the grant.
local forgot = redis.call('EXISTS', token_key) == 0
if not forgot and number('fence') ~= fence then return {'stale', moves} end
if number('version') == fresh.version and redis.call('HGET', token_key, 'sealed') == sealed then return {'kept', moves} end
if not forgot and number('version') ~= fresh.version - 1 then return {'stale', moves} end
-- One that replaces a refused version is watched; one that replaces an old one is not.
local watched = number('stale') + number('refused') > 0
if not watched then redis.call('HSET', token_key, 'refusals', 0) end
redis.call('HSET', token_key, 'fence', fence, 'version', fresh.version, 'sealed', sealed, 'key_id', fresh.key_id,
  'issued_us', fresh.issued_us, 'expires_us', fresh.expires_us, 'scope', fresh.scope,
  'lease_us', 0, 'retry_us', 0, 'failures', 0, 'doubts', 0, 'stale', 0, 'refused', 0)
become('active', fresh.detail)
return {'kept', moves}
