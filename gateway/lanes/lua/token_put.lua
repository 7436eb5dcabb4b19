-- token_put: replace a credential as a person wants it, or forget its tokens; whoever asks the vendor at this moment asks in vain.
-- KEYS[1] shard   tag     prefix of token:* (hash)
-- KEYS[2] events  stream  lifecycle events
-- KEYS[3] alerts  stream  what needs a person
-- ARGV[1] name    string  connector|connection
-- ARGV[2] state   string  how it stands from now on
-- ARGV[3] sealed  string  the tokens; empty: they are forgotten
-- ARGV[4] fresh   msgpack {version, key_id, issued_us, expires_us, scope, detail, stale}
-- ARGV[5] note    msgpack {id, time} for what is told
-- RETURN  {"kept" or "moved", moves}; moves: the changes of state made
local shard, events, alerts, name, state = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local sealed, fresh, note = ARGV[3], cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES token
if number('version') ~= fresh.version - 1 then return {'moved', moves} end
next_fence()
redis.call('HSET', token_key, 'version', fresh.version, 'sealed', sealed, 'key_id', fresh.key_id,
  'issued_us', fresh.issued_us, 'expires_us', fresh.expires_us, 'scope', fresh.scope,
  'lease_us', 0, 'retry_us', 0, 'failures', 0, 'doubts', 0, 'stale', fresh.stale and 1 or 0, 'refused', 0, 'refusals', 0)
become(state, fresh.detail)
return {'kept', moves}
