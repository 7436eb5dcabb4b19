-- gate: close a gate for a reason, or open it again; lanes behind a closed gate wait, and a closed gate may open by itself.
-- KEYS[1] shard     tag     prefix of gates (hash), moves, parked:* (zsets)
-- ARGV[1] key       string  @connector, @connector|connection, @connector||operation or @lane; or the key of a limit
-- ARGV[2] reason    string  why: one of the hold reasons
-- ARGV[3] close_us  int     for how long; 0 until it is opened, -1 opens it
-- ARGV[4] detail    string  what people are told
-- RETURN  {"closed" or "opened", until_us or 0}
local shard, key, reason, close, detail = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gates, packed = shard .. ':gates', redis.call('HGET', shard .. ':gates', key)
local closings = packed and cmsgpack.unpack(packed) or {}

local function kept()
  if next(closings) == nil then redis.call('HDEL', gates, key) else redis.call('HSET', gates, key, cmsgpack.pack(closings)) end
end

if close < 0 then
  closings[reason] = nil
  kept()
  if redis.call('EXISTS', shard .. ':parked:' .. key) == 1 then
    redis.call('ZADD', shard .. ':moves', now, key)
    redis.call('PUBLISH', shard .. ':wake', 1)
  end
  return {'opened', 0}
end
closings[reason] = {until_us = close > 0 and now + close or 0, detail = detail}
kept()
-- Lanes that wait for it already are looked at again when it opens by itself; the workers are told, to plan for it.
if close > 0 and redis.call('EXISTS', shard .. ':parked:' .. key) == 1 then
  redis.call('ZADD', shard .. ':moves', now + close, key)
  redis.call('PUBLISH', shard .. ':wake', 1)
end
return {'closed', closings[reason].until_us}
