-- token_begin: let one worker of the fleet ask the vendor for a new token; that it is about to is written down by the same step.
-- Whoever vanished while asking leaves a doubt: the vendor may have replaced the refresh token, and policy says how often the old one is tried.
-- Idempotent: the holder of the lease gets the same fence again.
-- KEYS[1] shard     tag     prefix of token:* (hash)
-- KEYS[2] events    stream  lifecycle events
-- KEYS[3] alerts    stream  what needs a person
-- ARGV[1] name      string  connector|connection
-- ARGV[2] knows     int     the version that the caller has; 0 for none
-- ARGV[3] holder    string  the caller
-- ARGV[4] lease_us  int     how long it may ask
-- ARGV[5] most      int     tries in doubt; -1: as often as it takes
-- ARGV[6] spare     int     1: with a doubt, no try before the access token has ended
-- ARGV[7] force     int     1: whatever the state, as a person wants it
-- ARGV[8] note      msgpack {id, time} for what is told
-- RETURN  {"granted" or "moved" or "held" or "waits" or "spared" or "shut", now_us, fields of the record, moves}; moves: the changes of state made
local shard, events, alerts, name = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local knows, holder, lease, most = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local spare, force, note = ARGV[6] == '1', ARGV[7] == '1', cmsgpack.unpack(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES token

if not force and number('version') ~= knows then return {'moved', now, whole(), moves} end
local leased = number('lease_us')
if leased > now then
  if redis.call('HGET', token_key, 'holder') == holder then return {'granted', now, whole(), moves} end
  return {'held', now, whole(), moves}
end

if leased > 0 then
  redis.call('HSET', token_key, 'lease_us', 0)
  if most >= 0 then
    redis.call('HINCRBY', token_key, 'doubts', 1)
    become('in_doubt', 'the worker that asked for a new token has vanished')
  end
end
local doubts = number('doubts')
if not force then
  if most >= 0 and doubts > most and not SHUT[state_of()] then
    become('needs_consent', 'the vendor may have replaced the refresh token, and its answer was lost')
  end
  if SHUT[state_of()] then return {'shut', now, whole(), moves} end
  if number('retry_us') > now then return {'waits', now, whole(), moves} end
  local alive = number('expires_us') > now and number('stale') == 0
  if doubts > 0 and spare and alive then return {'spared', now, whole(), moves} end
end

redis.call('HSET', token_key, 'before', state_of(), 'holder', holder, 'lease_us', now + lease)
next_fence()
become('refreshing', '')
return {'granted', now, whole(), moves}
