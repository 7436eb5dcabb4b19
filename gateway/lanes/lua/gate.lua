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
-- USES gates
if close < 0 then
  open_gate(key, reason)
  return {'opened', 0}
end
local until_us = close > 0 and now + close or 0
close_gate(key, reason, until_us, detail, most > 0 and most or nil)
return {'closed', until_us}
