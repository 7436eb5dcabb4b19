-- release: what becomes of a claim's slots when it is settled, and what the vendor's answer teaches about its limits.
-- Needs pacing, lanes and gates.
local SECOND_US, LONGEST_US = 1000000, 60000000
local function bucket_of(limit, at)
  local width = math.ceil(limit.window_us / BUCKETS)
  return (math.floor(at / width) + 1) * width
end

local function fill_bucket(limit, at, cost)
  local over = bucket_of(limit, at)
  local bucket = string.format('b%.0f', over)
  redis.call('HINCRBY', limit.spent, bucket, cost)
  redis.call('ZADD', limit.slots, 'GT', over, bucket)
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
  fill_bucket(limit, at, actual)
end

-- A soft limit works its calls off one after the other: only what is left of this one's share can still be given back.
local function correct(limit, permit, used)
  local more = (used - permit.cost) * (permit.interval_us or limit.interval)
  if more < 0 then
    more = -math.min(-more, math.max(0, (permit.ends_us or 0) - limit.back - now))
    limit.back = limit.back - more
  end
  limit.tat = limit.tat + more
end

-- how: 'unused' nothing was dialled; 'answered'; 'doubt' it may still arrive; 'lost' its worker is gone, the slots run out by themselves.
local function free(need, run, how, actual)
  local limit = limit_of(need)
  if how == 'lost' or need.cost == 0 then return end
  limit.dirty = true
  if limit.kind == 'soft' then
    correct(limit, need, how == 'unused' and 0 or (actual or need.cost))
    return
  end
  local at = now
  if how ~= 'unused' then at = now + limit.window_us + (how == 'doubt' and GUARD_US or 0) end
  reslot(limit, run.permit, need.cost, actual or need.cost, at)
  if how == 'answered' then
    local stay = now - run.since
    limit.stay_us = limit.stay_us < 0 and stay or math.floor(0.8 * limit.stay_us + 0.2 * stay)
    limit.quick_us = limit.quick_us < 0 and stay or math.min(stay, math.ceil(1.2 * limit.quick_us) + 1)
  end
end

-- A vendor that asked to wait is then tried with one call at a time, until one is answered. Each refusal before that doubles the wait, up
-- to the window: who says "at once", or nothing useful, is not asked for ever.
local function shut(key, close_us, window_us)
  local closings = closings_of(key)
  local before = closings.rate_limit
  if before and before.until_us <= now then
    local longest = math.min(LONGEST_US, window_us and math.max(window_us, SECOND_US) or LONGEST_US)
    close_us = math.max(close_us, math.min(longest, 2 * (before.for_us or 0)))
  elseif before then
    close_us = math.max(close_us, before.until_us - now)
  end
  closings.rate_limit = {
    until_us = now + close_us, for_us = before and before.until_us > now and before.for_us or close_us, detail = 'the vendor asked to wait', most = 1,
  }
  keep_closings(key, closings)
end

-- The vendor answered a call that was let through to find out.
local function reopen(key)
  local closings = closings_of(key)
  if not closings.rate_limit or closings.rate_limit.until_us > now then return end
  closings.rate_limit = nil
  keep_closings(key, closings)
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
  local others, until_us = limit.most - limit.used - left, now + math.max(1, reset_us or limit.window_us)
  if limit.kind ~= 'strict' or others <= 0 then return end
  limit.used, limit.dirty = limit.used + others, true
  if limit.declared > MANY then
    fill_bucket(limit, until_us, others)
  elseif redis.call('ZADD', limit.slots, 'NX', until_us, string.format('p%.0f:%.0f', now, others)) == 0 then
    limit.used = limit.used - others
  end
end

-- What is left until a reset that lies beyond the window is less than we would give: our own slots come back before, the vendor's do not.
-- There is one such charge; a later word only adds to it.
local function overhang(limit, left, reset_us)
  local known = redis.call('HGET', limit.spent, 'phantom')
  local stands = known and redis.call('ZSCORE', limit.slots, known)
  local charged, others = stands and tonumber(string.match(known, ':(%d+)$')) or 0, limit.most - left
  if limit.kind ~= 'strict' or others <= charged then return end
  if stands then redis.call('ZREM', limit.slots, known) end
  local permit = string.format('p:%.0f', others)
  redis.call('ZADD', limit.slots, now + reset_us, permit)
  redis.call('HSET', limit.spent, 'phantom', permit)
  limit.used, limit.dirty = limit.used + others - charged, true
end

local function taught(need, lesson)
  local limit = limit_of(need)
  learn(limit, lesson and lesson.most)
  if not lesson or not lesson.left then return end
  if (lesson.reset_us or 0) > limit.window_us then
    overhang(limit, lesson.left, lesson.reset_us)
  else
    phantom(limit, lesson.left, lesson.reset_us)
  end
end

-- Keeps what the answer says about waiting; a call that was let through to find out, and was not told to wait, has found out.
local function heed(run, how, lessons)
  local windows, told, refused = {}, {}, false
  for _, need in ipairs(run.permits or {}) do windows[need.key] = need.window_us end
  for _, lesson in ipairs(lessons or {}) do
    told[lesson.limit] = lesson
    if lesson.close_us then
      shut(lesson.limit, lesson.close_us, windows[lesson.limit])
      refused = true
    end
  end
  for _, need in ipairs(run.permits or {}) do
    local gate = need.name == 'rate_limit' and string.match(need.key, '^(.*)~$')
    if gate and how == 'answered' and not refused then reopen(gate) end
  end
  return told
end

-- Settles every slot of a run; afterwards the limits that lanes wait for are looked at when their next slot is free.
local function relinquish(run, how, costs, lessons)
  local told = heed(run, how, lessons)
  for _, need in ipairs(run.permits or {}) do
    free(need, run, how, costs and costs[need.name])
    if how == 'answered' then taught(need, told[need.key]) end
    if waited_for(need.key) then
      local limit = limits[need.key]
      move(need.key, math.max(now, free_at(limit, 1)))
    end
  end
end
