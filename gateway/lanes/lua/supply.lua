-- supply: how limits stand: what is taken of each, when that comes back, and what was learned.
-- KEYS[1] shard  tag      prefix of slots:* (zsets), spent:*, plans, gates (hashes), forgot (string)
-- ARGV[1] needs  msgpack  list of {key, kind, most, window_us}
-- ARGV[2] most   int      groups of slots that are told of each; slots beyond are told with the ones behind them
-- RETURN  {now_us, list of {used, learned or -1, stay_us or -1, tat_us, list of {at_us, slots}}}
local shard, needs, most = KEYS[1], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES pacing
-- A slot in use stands at the end of its lease; it will be free as soon as the answer is there, and W has passed.
local function returns(limit)
  local held, out = redis.call('ZCARD', limit.slots) - limit.over, {}
  if limit.kind == 'soft' or held == 0 then return out end
  local step, latest = math.ceil(held / most), now + limit.window_us + math.max(0, limit.stay_us)
  for first = 0, held - 1, step do
    local last = math.min(first + step, held) - 1
    local place = limit.over + last
    local score = tonumber(redis.call('ZRANGE', limit.slots, place, place, 'WITHSCORES')[2])
    out[#out + 1] = {math.min(score, latest), math.ceil(limit.used * (last - first + 1) / held)}
  end
  return out
end

local out = {}
for index, need in ipairs(needs) do
  local limit = limit_of(need)
  out[index] = {limit.used, limit.learned, limit.stay_us, limit.tat, returns(limit)}
end
return {now, out}
