-- inspect: everything a caller may ask about one call, in one look.
-- KEYS[1] shard  tag     prefix of calls, runs (hashes), lane:*, delayed (zsets), answer:* (hash)
-- ARGV[1] id     string  the call
-- RETURN  {"live", now_us, run, body, position or -1, due_us or -1} | {"ended", event, attempts} | {"unknown"}
local shard, id = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local packed = redis.call('HGET', shard .. ':runs', id)
if packed then
  local run = cmsgpack.unpack(packed)
  local rank = redis.call('ZRANK', shard .. ':lane:' .. run.lane, id)
  local due = redis.call('ZSCORE', shard .. ':delayed', id)
  return {'live', now, packed, redis.call('HGET', shard .. ':calls', id), rank or -1, due and tonumber(due) or -1}
end
local answer = redis.call('HMGET', shard .. ':answer:' .. id, 'event', 'attempts')
if answer[1] then return {'ended', answer[1], answer[2]} end
return {'unknown'}
