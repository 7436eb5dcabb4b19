-- forecast: when a call will start that has `ahead` calls before it in its lane, and what it waits for. Only reads. Needs pacing.
local SAMPLE = 16
local crowds = {}

local function takes(lane, key)
  for _, need in ipairs(facts_of(lane).needs) do
    if need.key == key then return true end
  end
  return false
end

-- The lanes that wait for a budget or one that is needed with it; at most 64 of each are looked at, the rest count like them.
local function crowd_of(key, found)
  if crowds[key] then return crowds[key] end
  local crowd = {seen = 0, total = 0, lanes = {}}
  for _, need in ipairs(found.needs) do
    local waiting = redis.call('ZRANGE', shard .. ':parked:' .. need.key, 0, 63)
    crowd.seen, crowd.total = crowd.seen + #waiting, crowd.total + redis.call('ZCARD', shard .. ':parked:' .. need.key)
    for _, other in ipairs(waiting) do
      if takes(other, key) then crowd.lanes[other] = redis.call('ZCARD', shard .. ':lane:' .. other) end
    end
  end
  crowds[key] = crowd
  return crowd
end

-- Calls of other lanes that go before it, since lanes take turns.
local function before(key, lane, found, ahead)
  local sum, crowd = 0, crowd_of(key, found)
  for other, calls in pairs(crowd.lanes) do
    if other ~= lane then sum = sum + math.min(calls, ahead + 1) end
  end
  return crowd.seen > 0 and math.floor(sum * crowd.total / crowd.seen) or 0
end

-- When the last of `wanted` slots is free, counted from `start`: the slots that are free, those that come back, and so on in rounds.
local function slot_at(limit, wanted, start, hasty)
  if limit.kind == 'soft' then return math.max(start, limit.tat + (wanted - limit.burst) * limit.interval) end
  local stay = math.max(0, hasty and limit.quick_us or limit.stay_us)
  local round = limit.window_us + stay
  local rounds = math.floor((wanted - 1) / limit.most)
  local rest, room = (wanted - 1) % limit.most + 1, math.max(0, limit.most - limit.used)
  local at, held = start, redis.call('ZCARD', limit.slots) - limit.over
  if rest > room and held > 0 then
    local index = math.min(held, math.ceil((rest - room) * held / limit.used)) - 1
    local place = limit.over + index
    local score = tonumber(redis.call('ZRANGE', limit.slots, place, place, 'WITHSCORES')[2] or now)
    -- A slot in use stands at the end of its lease; it will be free as soon as the answer is there, and some were asked before others.
    at = math.max(at, math.min(score, now + limit.window_us + math.ceil(stay * (index + 1) / held)))
  end
  return at + rounds * round
end

-- What calls of a lane take of a limit: of the first ones the mean or, `hasty`, the least.
local function usual(lane, found, need, hasty)
  if not need.weighted then return need.cost end
  if not found.heads then
    found.heads = {}
    for index, id in ipairs(redis.call('ZRANGE', shard .. ':lane:' .. lane, 0, SAMPLE - 1)) do
      local packed = redis.call('HGET', shard .. ':runs', id)
      found.heads[index] = packed and cmsgpack.unpack(packed).costs or {}
    end
  end
  local sum, least = 0, need.most
  for _, costs in ipairs(found.heads) do
    local cost = cost_for(need, costs)
    sum, least = sum + cost, math.min(least, cost)
  end
  return hasty and least or sum / math.max(1, #found.heads)
end

-- When it will start, at the lane's pace; `hasty` if all goes as quickly as it lately did at its best, so that no call is refused that
-- might have been in time: us; nil when nobody can tell, because no limit binds or somebody has to act.
local function eta(lane, found, shut, ahead, costs, hasty)
  if shut and (shut.until_us == 0 or shut.reason ~= 'rate_limit' and shut.reason ~= 'paused') then return nil end
  if found.ramped or #found.needs == 0 and not shut then return nil end
  local start = math.max(now, shut and shut.until_us or now)
  local at = start
  for _, need in ipairs(found.needs) do
    local cost = cost_for(need, costs)
    if cost > 0 then
      local others = math.floor((ahead + before(need.key, lane, found, ahead)) * usual(lane, found, need, hasty))
      at = math.max(at, slot_at(limit_of(need), others + cost, start, hasty))
    end
  end
  return at
end

-- The need that denies a call of this cost the longest, and until when; nil when all have room.
local function binding(found, costs)
  local tightest, latest = nil, nil
  for _, need in ipairs(found.needs) do
    local limit, cost = limit_of(need), cost_for(need, costs)
    if fits(limit, cost) < 1 then
      local at = free_at(limit, cost)
      if not latest or at > latest then tightest, latest = need, at end
    end
  end
  return tightest, latest
end

-- What fits by itself may wait for its turn with a limit that calls before it wait for.
local function awaited(lane, found)
  local key = redis.call('HGET', shard .. ':parks', lane)
  for _, need in ipairs(found.needs) do
    if need.key == key then return need, tonumber(redis.call('ZSCORE', shard .. ':moves', key) or now) end
  end
  return nil, nil
end

-- The costs of the call that goes first: while it does not fit, none behind it starts.
local function first_costs(lane)
  local head = redis.call('ZRANGE', shard .. ':lane:' .. lane, 0, 0)[1]
  local packed = head and redis.call('HGET', shard .. ':runs', head)
  return packed and cmsgpack.unpack(packed).costs
end

-- What holds a lane whose first call has this cost: {reason, detail, until_us, key, limit's name, most, window_us, used}; empty when nothing does.
local function held_by(lane, found, shut, costs)
  if shut then return {shut.reason, shut.detail or '', shut.until_us, shut.key} end
  local need, at = binding(found, costs)
  if not need then need, at = awaited(lane, found) end
  if not need then return {} end
  local limit = limit_of(need)
  if need.reason then return {need.reason, 'it is tried again with few calls at once', 0, string.sub(need.key, 1, -2)} end
  local reason = need.kind == 'concurrency' and 'concurrency' or 'rate_limit'
  -- A slot in use stands at the end of its lease; it will be free as soon as the answer is there.
  at = math.min(at, now + need.window_us + math.max(0, limit.stay_us))
  return {reason, '', at, need.key, need.name, limit.most, need.window_us, limit.used}
end
