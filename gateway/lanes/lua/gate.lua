-- gate: close a gate for a reason, or open it again; lanes behind a closed gate wait, and a closed gate may open by itself.
-- KEYS[1] shard     tag     prefix of gates (hash), moves, parked:* (zsets)
-- ARGV[1] key       string  @connector, @connector|connection, @connector||operation or @lane; or the key of a limit
-- ARGV[2] reason    string  why: one of the hold reasons
-- ARGV[3] close_us  int     for how long; 0 until it is opened, -1 opens it
-- ARGV[4] detail    string  what people are told
-- ARGV[5] most      int     when its time has passed, so many calls at once may go through until it is opened; 0: it is open then
-- RETURN  {"closed" or "opened", until_us or 0}
local shard, key, reason, close, detail, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gates, packed = shard .. ':gates', redis.call('HGET', shard .. ':gates', key)
local closings = packed and cmsgpack.unpack(packed) or {}

local function kept()
  if next(closings) == nil then redis.call('HDEL', gates, key) else redis.call('HSET', gates, key, cmsgpack.pack(closings)) end
end

-- Lanes that wait for it, or for a place among the few that may try, are looked at again at `at`; the workers are told, to plan for it.
local function look(at)
  for _, waited in ipairs({key, key .. '~'}) do
    if redis.call('EXISTS', shard .. ':parked:' .. waited) == 1 then
      redis.call('ZADD', shard .. ':moves', at, waited)
      redis.call('PUBLISH', shard .. ':wake', 1)
    end
  end
end

if close < 0 then
  closings[reason] = nil
  kept()
  look(now)
  return {'opened', 0}
end
local since = closings[reason] and closings[reason].since_us or now
closings[reason] = {since_us = since, until_us = close > 0 and now + close or 0, detail = detail, most = most > 0 and most or nil}
kept()
if close > 0 then look(now + close) end
return {'closed', closings[reason].until_us}
