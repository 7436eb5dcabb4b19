-- survey: how lanes stand: what waits, since when, what holds them, how full their limits are, when the last call in each will start.
-- KEYS[1] shard  tag      prefix of held, runs, parks, plans, gates, spent:* (hashes), lane:*, parked:*, moves, slots:* (zsets), forgot (string)
-- ARGV[1] lanes  msgpack  the lanes to look at
-- RETURN  {now_us, {lane, live, waiting, oldest_us or -1, eta_us or -1, hold, list of {key, name, kind, most, window_us, used, learned or -1}} ...};
--         hold as in `inspect`
local shard, lanes = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES pacing, forecast
local function budgets(found)
  local out = {}
  for index, need in ipairs(found.needs) do
    local limit = limit_of(need)
    out[index] = {need.key, need.name, need.kind, need.most, need.window_us, limit.used, limit.learned}
  end
  return out
end

-- The head has waited longest, or nearly so: order inside a lane is fair, not first come.
local function oldest(lane)
  local head = redis.call('ZRANGE', shard .. ':lane:' .. lane, 0, 0)[1]
  local packed = head and redis.call('HGET', shard .. ':runs', head)
  return packed and cmsgpack.unpack(packed).since or -1
end

local out = {}
for index, lane in ipairs(lanes) do
  local found, waiting = facts_of(lane), redis.call('ZCARD', shard .. ':lane:' .. lane)
  local shut = closed(found) or forgotten(found)
  local at = waiting > 0 and eta(lane, found, shut, waiting - 1, nil)
  local live, costs = tonumber(redis.call('HGET', shard .. ':held', lane) or '0'), found.weighted and first_costs(lane) or nil
  out[index] = {lane, live, waiting, oldest(lane), at or -1, held_by(lane, found, shut, costs), budgets(found)}
end
return {now, out}
