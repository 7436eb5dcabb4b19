-- pacing: what limits allow, to the letter what `pacing.py` says. The including script binds `shard` and `now`.
-- plans (hash: connector|operation -> what its calls take), slots:* (zset: permit -> when its slots may be used again),
-- spent:* (hash: used, tat, back, most, grow_us, stay_us, quick_us, phantom, stepped, and the cost of each sub-bucket),
-- gates (hash: key -> who closed it, until when),
-- forgot (string: when this Redis was found to have forgotten, and the name it got then).
local GUARD_US, MANY, BUCKETS, KEEP_MS = 5000000, 10000, 200, 86400000
local plans, facts, limits = {}, {}, {}
local gated, forgot = nil, nil
-- How far Redis' clock was set forward, see `clock`; a script that leaves it nil only looks, and forgets nothing that has run out.
-- In doubt whether there was another step nothing runs out at all.
local stepped, doubtful = nil, false

local function plan_of(connector, operation)
  local name = connector .. '|' .. operation
  if not plans[name] then
    local packed = redis.call('HGET', shard .. ':plans', name)
    plans[name] = packed and cmsgpack.unpack(packed) or {hold_us = 0, safe = false, needs = {}}
  end
  return plans[name]
end

local function instance(need, connector, connection, operation)
  if need.per == 'connector' then return connector .. '|' .. need.name end
  if need.per == 'connection' then return connector .. '|' .. connection .. '|' .. need.name end
  return connector .. '||' .. operation .. '|' .. need.name
end

-- What is known of a lane: its needs with the keys of the budgets they share, and the gates on its way.
local function facts_of(lane)
  if facts[lane] then return facts[lane] end
  local connector, connection, operation = string.match(lane, '^([^|]*)|([^|]*)|(.*)$')
  local plan = plan_of(connector, operation)
  local found = {safe = plan.safe, needs = {}, weighted = false, ramped = false}
  found.gates = {'@' .. connector, '@' .. connector .. '|' .. connection, '@' .. connector .. '||' .. operation, '@' .. lane}
  for index, need in ipairs(plan.needs) do
    local key = instance(need, connector, connection, operation)
    found.needs[index] = {
      key = key, name = need.name, kind = need.kind, most = need.most, window_us = need.window_us, cost = need.cost, weighted = need.weighted,
      hold_us = math.max(plan.hold_us, need.hold_us or 0),
    }
    found.gates[#found.gates + 1] = key
    if need.weighted then found.weighted = true end
  end
  facts[lane] = found
  return found
end

-- A call that goes before those that waited may fit where they do not: with fixed costs all of a lane fit or none. Needs lanes.
local function overtakes(lane, id) return facts_of(lane).weighted and is_next(lane, id) and stir(lane) end

-- What a call takes. One that was stored before its limit was declared like this told no estimate: it counts as all there is.
local function cost_for(need, costs)
  if not need.weighted then return need.cost end
  return costs and costs[need.name] or need.most
end

local function is_bucket(permit) return string.sub(permit, 1, 1) == 'b' end

local function cost_of(limit, permit)
  if is_bucket(permit) then return tonumber(redis.call('HGET', limit.spent, permit) or '0') end
  return tonumber(string.match(permit, ':(%d+)$') or '0')
end

-- Counts what has run out as gone. Only who knows of steps writes that down: after one, what has run out by the clock may not have.
local function expire(limit)
  for round = 0, 19 do
    local over = redis.call('ZRANGEBYSCORE', limit.slots, '-inf', now, 'LIMIT', stepped and 0 or 1000 * round, 1000)
    if #over == 0 then return end
    for _, permit in ipairs(over) do
      limit.used = limit.used - cost_of(limit, permit)
      if stepped and is_bucket(permit) then redis.call('HDEL', limit.spent, permit) end
    end
    if stepped then
      redis.call('ZREM', limit.slots, unpack(over))
      redis.call('HSET', limit.spent, 'used', limit.used)
    else
      limit.over = limit.over + #over
    end
  end
end

-- No slot can stand further away than this, but for what the vendor said of its own resets.
local function latest_of(need)
  return now + need.window_us + math.ceil(need.window_us / BUCKETS) + (need.hold_us or 0) + GUARD_US
end

-- Puts every slot where `moved(at, vendors)` says, never earlier than it stands: from the end, so that ranks stay what they are.
local function put_off(limit, moved)
  for last = redis.call('ZCARD', limit.slots) - 1, 0, -1000 do
    local held, changed = redis.call('ZRANGE', limit.slots, math.max(0, last - 999), last, 'WITHSCORES'), {}
    for index = 1, #held, 2 do
      changed[index] = moved(tonumber(held[index + 1]), string.sub(held[index], 1, 1) == 'p')
      changed[index + 1] = held[index]
    end
    redis.call('ZADD', limit.slots, unpack(changed))
  end
end

-- Slots stand at times of Redis' clock. When that is set forward they move along, or the step would free what is still in the
-- vendor's windows; a row that was written by who knew nothing of steps is moved no further than a slot can stand.
local function follow(limit, need)
  local by, latest = stepped - limit.stepped, latest_of(need)
  limit.tat = math.max(limit.tat, math.min(limit.tat + by, now + 2 * limit.window_us))
  limit.stepped, limit.dirty = stepped, true
  put_off(limit, function(at, vendors) return vendors and at + by or math.max(at, math.min(at + by, latest)) end)
end

-- A burst b and an interval T with b + W/T <= N + 1: no window of W holds more than N grants.
local function soften(limit)
  limit.burst = math.min(limit.most, math.max(2, math.floor(limit.most / 20)))
  limit.interval = math.ceil(limit.window_us / (limit.most - limit.burst + 1))
end

local function limit_of(need)
  local limit = limits[need.key]
  if limit then return limit end
  limit = {key = need.key, kind = need.kind, declared = need.most, window_us = need.window_us, fresh = {}, dirty = false, over = 0}
  limit.slots, limit.spent = shard .. ':slots:' .. need.key, shard .. ':spent:' .. need.key
  local kept = redis.call('HMGET', limit.spent, 'used', 'tat', 'most', 'grow_us', 'stay_us', 'back', 'quick_us', 'stepped')
  limit.used, limit.tat = tonumber(kept[1] or '0'), tonumber(kept[2] or '0')
  limit.learned, limit.grow_us = tonumber(kept[3] or '-1'), tonumber(kept[4] or '0')
  limit.stay_us, limit.back = tonumber(kept[5] or '-1'), tonumber(kept[6] or '0')
  limit.quick_us = tonumber(kept[7] or '-1')
  limit.stepped = kept[1] and tonumber(kept[8] or '0') or stepped or 0
  limit.most = limit.learned > 0 and math.min(need.most, limit.learned) or need.most
  if stepped and limit.stepped < stepped and not doubtful then follow(limit, need) end
  if limit.kind == 'soft' then soften(limit) elseif not doubtful then expire(limit) end
  limits[need.key] = limit
  return limit
end

-- How many calls of this cost may start now.
local function fits(limit, cost)
  if cost == 0 then return math.huge end
  if limit.kind == 'soft' then
    local full = limit.burst * limit.interval
    local room = full - math.max(0, limit.tat - now)
    if cost > limit.burst then return room == full and 1 or 0 end
    return math.floor(room / (limit.interval * cost))
  end
  -- What was learned may lie below the cost of one call: it then goes alone.
  return math.max(0, math.floor((math.max(limit.most, cost) - limit.used) / cost))
end

local function flush(limit)
  if #limit.fresh > 0 then redis.call('ZADD', limit.slots, unpack(limit.fresh)) end
  limit.fresh = {}
end

-- Returns where a call of a soft limit ends in its queue of calls, and the interval it paid: no more than what is left of that can be given back.
local function charge(limit, fence, lease_us, cost)
  if cost == 0 then return nil end
  limit.dirty = true
  if limit.kind == 'soft' then
    limit.tat = math.max(limit.tat, now) + cost * limit.interval
    return limit.tat + limit.back, limit.interval
  end
  limit.used = limit.used + cost
  limit.fresh[#limit.fresh + 1] = lease_us + limit.window_us
  limit.fresh[#limit.fresh + 1] = string.format('%.0f:%.0f', fence, cost)
  if #limit.fresh > 1000 then flush(limit) end
end

-- When a call of this cost will fit, if nothing else changes. With mixed costs it may be early: then it is looked at again.
local function free_at(limit, cost)
  if limit.kind == 'soft' then
    return limit.tat + (math.min(cost, limit.burst) - limit.burst) * limit.interval
  end
  flush(limit)
  local short, at = limit.used + cost - math.max(limit.most, cost), now
  if short <= 0 then return now end
  local permits = redis.call('ZRANGE', limit.slots, limit.over, limit.over + math.min(short, 128) - 1, 'WITHSCORES')
  -- A sum without slots to it could only be waited for in vain: somebody else's hand was here.
  if #permits == 0 then limit.used, limit.dirty = 0, true end
  for index = 1, #permits, 2 do
    at = tonumber(permits[index + 1])
    short = short - cost_of(limit, permits[index])
    if short <= 0 then break end
  end
  return at
end

local function keep()
  for _, limit in pairs(limits) do
    if limit.dirty then
      flush(limit)
      redis.call('HSET', limit.spent, 'used', limit.used, 'tat', limit.tat, 'back', limit.back)
      if limit.stepped > 0 then redis.call('HSET', limit.spent, 'stepped', string.format('%.0f', limit.stepped)) end
      if limit.stay_us >= 0 then redis.call('HSET', limit.spent, 'stay_us', limit.stay_us, 'quick_us', limit.quick_us) end
      -- Kept far longer than any slot can be held; a limit that nobody uses any more is forgotten.
      local ms = math.ceil(limit.window_us / 1000) + 2 * KEEP_MS
      redis.call('PEXPIRE', limit.spent, ms)
      redis.call('PEXPIRE', limit.slots, ms)
    end
  end
end

-- A closing whose time has passed but that names a `most` lets so many through at once: probes, and then a slow start.
local function ramp(found, gate, reason, most)
  found.ramped = true
  found.needs[#found.needs + 1] = {
    key = gate .. '~', name = reason, reason = reason, kind = 'concurrency', most = most, window_us = 0, cost = 1, weighted = false,
  }
end

-- The latest closing of the gates on a lane's way: key, reason, until (0: nobody knows), detail; nil when all are open.
local function closed(found)
  -- Mostly there is no gate anywhere: then no lane is asked for each of its own.
  if gated == nil then gated = redis.call('EXISTS', shard .. ':gates') == 1 end
  if not gated then return nil end
  local shut = nil
  for index, packed in ipairs(redis.call('HMGET', shard .. ':gates', unpack(found.gates))) do
    if packed then
      for reason, closing in pairs(cmsgpack.unpack(packed)) do
        local open = closing.until_us > 0 and closing.until_us <= now
        local later = not shut or closing.until_us == 0 or (shut.until_us > 0 and closing.until_us > shut.until_us)
        if open and closing.most then ramp(found, found.gates[index], reason, closing.most) end
        if not open and later then
          shut = {key = found.gates[index], reason = reason, until_us = closing.until_us, detail = closing.detail}
        end
      end
    end
  end
  return shut
end

-- After a loss nobody knows what was sent: a limit starts full, until what may have been under way has left every window.
local function forgotten(found)
  if forgot == nil then forgot = redis.call('GET', shard .. ':forgot') end
  if not forgot then return nil end
  local since, shut = tonumber(string.match(forgot, '^%d+')), nil
  for _, need in ipairs(found.needs) do
    local at = since + need.hold_us + need.window_us
    if at > now and (not shut or at > shut.until_us) then
      shut = {key = need.key, reason = 'rate_limit', until_us = at, detail = 'forgotten'}
    end
  end
  return shut
end
