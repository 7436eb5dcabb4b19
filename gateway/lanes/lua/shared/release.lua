-- release: what becomes of a claim's slots when it is settled, and what the vendor's answer teaches about its limits.
-- Needs pacing and lanes.
local function bucket_of(limit, at)
  local width = math.ceil(limit.window_us / BUCKETS)
  return (math.floor(at / width) + 1) * width
end

-- Moves a permit of `cost` to `at`, at its actual cost; a permit that had run out before it was settled counts again.
local function reslot(limit, fence, cost, actual, at)
  local permit = string.format('%.0f:%.0f', fence, cost)
  local known = redis.call('ZREM', limit.slots, permit) == 1
  limit.used = limit.used - (known and cost or 0)
  if at <= now or actual == 0 then return end
  limit.used = limit.used + actual
  if limit.declared <= MANY or limit.window_us == 0 then
    redis.call('ZADD', limit.slots, at, string.format('%.0f:%.0f', fence, actual))
    return
  end
  local over = bucket_of(limit, at)
  local bucket = string.format('b%.0f', over)
  redis.call('HINCRBY', limit.spent, bucket, actual)
  redis.call('ZADD', limit.slots, over, bucket)
end

-- how: 'unused' nothing was dialled; 'answered'; 'doubt' it may still arrive; 'lost' its worker is gone, the slots run out by themselves.
local function free(need, run, how, actual)
  local limit = limit_of(need)
  if how == 'lost' or need.cost == 0 then return end
  limit.dirty = true
  if limit.kind == 'soft' then
    local used = how == 'unused' and 0 or (actual or need.cost)
    limit.tat = math.max(0, limit.tat + (used - need.cost) * limit.interval)
    return
  end
  local at = now
  if how ~= 'unused' then at = now + limit.window_us + (how == 'doubt' and GUARD_US or 0) end
  reslot(limit, run.permit, need.cost, actual or need.cost, at)
  if how == 'answered' then
    local stay = now - run.since
    limit.stay_us = limit.stay_us < 0 and stay or math.floor(0.8 * limit.stay_us + 0.2 * stay)
  end
end

local function shut(key, reason, until_us, detail)
  local packed = redis.call('HGET', shard .. ':gates', key)
  local closings = packed and cmsgpack.unpack(packed) or {}
  local before = closings[reason]
  if before and reason == 'rate_limit' then until_us = math.max(until_us, before.until_us) end
  closings[reason] = {until_us = until_us, detail = detail}
  redis.call('HSET', shard .. ':gates', key, cmsgpack.pack(closings))
end

-- Tighten at once, loosen by a tenth of the declared limit a window, never above it.
local function learn(limit, most)
  if most then
    if most < limit.most then
      limit.most = math.max(1, most)
      redis.call('HSET', limit.spent, 'most', limit.most, 'grow_us', now + limit.window_us)
    end
  elseif limit.learned > 0 and limit.most < limit.declared and now >= limit.grow_us then
    limit.most = math.min(limit.declared, limit.most + math.ceil(limit.declared / 10))
    redis.call('HSET', limit.spent, 'most', limit.most, 'grow_us', now + limit.window_us)
  end
end

-- The vendor sees less left than we do: somebody else spends of the same budget. The difference is charged until its reset.
local function phantom(limit, left, reset_us)
  local ours = limit.most - limit.used
  if limit.kind ~= 'strict' or left >= ours then return end
  limit.used, limit.dirty = limit.used + ours - left, true
  local permit = string.format('p%.0f:%.0f', now, ours - left)
  if redis.call('ZADD', limit.slots, 'NX', now + math.max(1, reset_us or limit.window_us), permit) == 0 then
    limit.used = limit.used - (ours - left)
  end
end

local function taught(need, lesson)
  local limit = limit_of(need)
  learn(limit, lesson and lesson.most)
  if lesson and lesson.left then phantom(limit, lesson.left, lesson.reset_us) end
end

-- Settles every slot of a run; afterwards the limits that lanes wait for are looked at when their next slot is free.
local function relinquish(run, how, costs, lessons)
  local told = {}
  for _, lesson in ipairs(lessons or {}) do
    told[lesson.limit] = lesson
    if lesson.close_us then shut(lesson.limit, 'rate_limit', now + lesson.close_us, 'the vendor asked to wait') end
  end
  for _, need in ipairs(run.permits or {}) do
    free(need, run, how, costs and costs[need.name])
    if how == 'answered' then taught(need, told[need.key]) end
    if waited_for(need.key) then
      local limit = limits[need.key]
      move(need.key, math.max(now, free_at(limit, 1)))
    end
  end
end
