-- inspect: everything a caller may ask about one call, in one look: also what it waits for and until when.
-- KEYS[1] shard  tag     prefix of calls, runs, parks, plans, gates, spent:*, answer:* (hashes), lane:*, parked:*, delayed, moves,
--                slots:* (zsets), forgot (string)
-- ARGV[1] id     string  the call
-- RETURN  {"live", now_us, run, body, position or -1, due_us or -1, eta_us or -1, hold} | {"ended", event, attempts} | {"unknown"};
--         hold is {reason, detail, until_us, limit's name, per, most, window_us, used}, or empty when nothing holds it
local shard, id = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES pacing, forecast
local packed = redis.call('HGET', shard .. ':runs', id)
if packed then
  local run, body = cmsgpack.unpack(packed), redis.call('HGET', shard .. ':calls', id)
  local rank = redis.call('ZRANK', shard .. ':lane:' .. run.lane, id)
  local due = redis.call('ZSCORE', shard .. ':delayed', id)
  local found = facts_of(run.lane)
  local shut = closed(found) or forgotten(found)
  if not rank then
    -- Not due yet; but a gate that only a person opens is what holds it.
    local held = due and shut and shut.until_us == 0 and held_by(run.lane, found, shut, nil) or {}
    return {'live', now, packed, body, -1, due and tonumber(due) or -1, -1, held}
  end
  local at = eta(run.lane, found, shut, rank, run.costs)
  return {'live', now, packed, body, rank, -1, at or -1, held_by(run.lane, found, shut, found.weighted and first_costs(run.lane) or nil)}
end
local answer = redis.call('HMGET', shard .. ':answer:' .. id, 'event', 'attempts')
if answer[1] then return {'ended', answer[1], answer[2]} end
return {'unknown'}
