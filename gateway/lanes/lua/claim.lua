-- claim: give a worker up to `room` calls, each under a lease with a fence of its own and with a slot of every limit it names.
-- Keys that moved come first, then lanes in turn; within a lane the lowest tag. A lane that is denied is parked until its key moves.
-- Idempotent: the same (worker, sequence) gets the same claims again, so that a lost reply parks nothing.
-- KEYS[1] shard     tag     prefix of calls, runs, parks, plans, gates, virtual, spent:* (hashes), ready, ready:*, lane:*, flows:*, parked:*,
--                   moves, delayed, leases, slots:* (zsets), fence, forgot, epoch, branch,
--                   doubt, stepped and memo:* (strings)
-- ARGV[1] worker    string  name of the claiming worker
-- ARGV[2] sequence  int     number of this claim of the worker
-- ARGV[3] room      int     how many calls the worker has room for
-- ARGV[4] grace_us  int     lease beyond the call's timeout: time to start plus the guard
-- ARGV[5] epoch     string  the state the worker believes in; empty for any
-- ARGV[6] expected  int     what Redis' clock should show by the worker's own, 0 when it cannot tell: see `clock`
-- ARGV[7] known     int     how far it was known to be set forward when the two were compared
-- ARGV[8] proven    int     how much further it was set since, as the worker has proven
-- RETURN  {"claimed", now_us, next_due_us or -1, {id, fence, lease_us, run, body, ...}, stepped_us} | {"forgot", now_us, -1, {}, stepped_us}
local shard, worker, sequence, epoch = KEYS[1], ARGV[1], ARGV[2], ARGV[5]
local room, grace = tonumber(ARGV[3]), tonumber(ARGV[4])
local expected, known, proven = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, pacing, standing, doubt, clock
local STEP, SCANS = 16, 256
local EMPTY, MORE, PARKED = 1, 2, 3
local runs, calls = shard .. ':runs', shard .. ':calls'
local memo_key = shard .. ':memo:' .. worker
local out, memo = {}, {}
-- What is written once for all claimed calls, see `commit`: a command each would be most of the time a claim takes.
local fence, ids, changed, leased, virtual = nil, {}, {}, {}, {}

local function give(id, run, packed, body)
  out[#out + 1] = id
  out[#out + 1] = run.fence
  out[#out + 1] = run.lease_us
  out[#out + 1] = packed
  out[#out + 1] = body
end

local function again(previous)
  for index = 1, #previous, 2 do
    local packed = redis.call('HGET', runs, previous[index])
    if packed then
      local run = cmsgpack.unpack(packed)
      if run.fence == previous[index + 1] and run.state == 'processing' then give(previous[index], run, packed, redis.call('HGET', calls, previous[index])) end
    end
  end
end

-- A call whose deadline has passed only goes to be ended: it takes no slot.
local function charged(run, found)
  if run.deadline_us < now then return nil end
  local permits = {}
  for index, need in ipairs(found.needs) do
    local cost = cost_for(need, run.costs)
    local ends, interval = charge(limit_of(need), run.fence, run.lease_us, cost)
    permits[index] = {
      key = need.key, name = need.name, kind = need.kind, most = need.most, window_us = need.window_us, hold_us = need.hold_us, cost = cost,
      ends_us = ends, interval_us = interval,
    }
  end
  return permits
end

local function next_fence()
  fence = (fence or tonumber(redis.call('GET', shard .. ':fence') or '0')) + 1
  return fence
end

local function lease(id, packed, found)
  if not packed then return end
  local run = cmsgpack.unpack(packed)
  cast_doubt(run)
  run.state, run.marked, run.since = 'processing', 0, now
  run.fence = next_fence()
  run.lease_us = now + run.timeout_us + grace
  run.permit, run.permits = run.fence, charged(run, found)
  packed = cmsgpack.pack(run)
  ids[#ids + 1] = id
  changed[#changed + 1] = id
  changed[#changed + 1] = packed
  leased[#leased + 1] = run.lease_us
  leased[#leased + 1] = id
  memo[#memo + 1] = id
  memo[#memo + 1] = run.fence
  give(id, run, packed, false)
end

-- Virtual time follows the tags served and rises a little with every call, so that no stream of fresh flows keeps a call waiting.
local function advance(lane, tags)
  local at = virtual[lane] or tonumber(redis.call('HGET', shard .. ':virtual', lane) or '0')
  for _, tag in ipairs(tags) do at = math.max(at + STEP, tag) end
  virtual[lane] = at
end

local function take(lane, found, count)
  local popped, taken, tags = redis.call('ZPOPMIN', shard .. ':lane:' .. lane, count), {}, {}
  for index = 1, #popped, 2 do
    taken[#taken + 1] = popped[index]
    tags[#tags + 1] = tonumber(popped[index + 1])
  end
  if #tags == 0 then return 0 end
  advance(lane, tags)
  for index, packed in ipairs(redis.call('HMGET', runs, unpack(taken))) do lease(taken[index], packed, found) end
  room = room - #tags
  return #tags
end

-- The costs of the call at the head; without weighted needs every call of the lane costs the same.
local function costs_of(lane, found)
  if not found.weighted then return {} end
  local head = redis.call('ZRANGE', shard .. ':lane:' .. lane, 0, 0)[1]
  local packed = head and redis.call('HGET', runs, head)
  return packed and cmsgpack.unpack(packed).costs or {}
end

-- A limit that other lanes wait for is theirs first: what fits between them would keep a dear call waiting for ever. `own` is the key
-- in whose turn this lane is looked at, `place` its place there: who has waited longest goes first with every limit.
local function spoken_for(found, costs, own, place)
  for _, need in ipairs(found.needs) do
    if need.key ~= own and cost_for(need, costs) > 0 and waited_before(need.key, place) then return need.key end
  end
  return nil
end

-- How many calls may start now; with 0 also the key that denies it longest and when that may change.
local function allowed(lane, found, most, own, place)
  if found.shut == nil then found.shut = closed(found) or forgotten(found) or false end
  -- Also behind a gate what has run out is taken away, or each look would count it again.
  if found.shut then
    for _, need in ipairs(found.needs) do limit_of(need) end
    return 0, found.shut.key, found.shut.until_us > 0 and found.shut.until_us or nil
  end
  local costs, count, key, at = costs_of(lane, found), most, nil, nil
  for _, need in ipairs(found.needs) do
    local limit, cost = limit_of(need), cost_for(need, costs)
    local fit = fits(limit, cost)
    count = math.min(count, fit)
    if fit < 1 then
      local free = free_at(limit, cost)
      if not at or free > at then key, at = need.key, free end
    end
  end
  local others = count > 0 and spoken_for(found, costs, own, place)
  if others then return 0, others, tonumber(redis.call('ZSCORE', shard .. ':moves', others) or now) end
  return count, key, at
end

-- Serves a lane up to `most` calls; tells whether it is empty, has more, or was parked and under which key.
local function serve(lane, most, place, own)
  local found, taken = facts_of(lane), 0
  repeat
    local count, key, at = allowed(lane, found, found.weighted and 1 or most - taken, own, place)
    if count < 1 then
      if redis.call('EXISTS', shard .. ':lane:' .. lane) == 0 then return EMPTY end
      park(lane, key, at, taken == 0 and place or nil)
      return PARKED, key
    end
    local got = take(lane, found, count)
    taken = taken + got
    if got < count then return EMPTY end
  until taken >= most or not found.weighted
  return MORE
end

-- The lane that waited longest; for a gate one whose calls are safe, if there is one near: it may have to be the probe.
local function next_parked(key, waiting)
  if string.sub(key, 1, 1) == '@' then
    for _, lane in ipairs(redis.call('ZRANGE', waiting, 0, 15)) do
      if facts_of(lane).safe then
        local place = redis.call('ZSCORE', waiting, lane)
        redis.call('ZREM', waiting, lane)
        return lane, place
      end
    end
  end
  local popped = redis.call('ZPOPMIN', waiting)
  return popped[1], popped[2]
end

-- A lane that has more stays with a limit, in turn with the others; behind a gate that is open there is nothing to wait for.
local function back(lane, key)
  if string.match(key, '^@.*[^~]$') then rouse(lane) else park(lane, key, nil) end
end

-- Serves the lanes that wait for a key, one call each in turn, until the key denies one, nobody waits or the room is used up.
local function serve_parked(key)
  local waiting = shard .. ':parked:' .. key
  redis.call('ZREM', shard .. ':moves', key)
  while room > 0 and SCANS > 0 do
    local lane, place = next_parked(key, waiting)
    if not lane then return end
    SCANS = SCANS - 1
    redis.call('HDEL', shard .. ':parks', lane)
    local others = redis.call('ZCARD', waiting)
    local fate, by = serve(lane, math.max(1, math.floor(room / (others + 1) / 32)), place, key)
    if fate == MORE then back(lane, key) end
    if fate == PARKED and by == key then return end
  end
  if waited_for(key) then move(key, now) end
end

local function serve_ready()
  while room > 0 and SCANS > 0 do
    local connectors = redis.call('ZRANGE', shard .. ':ready', 0, 63)
    if #connectors == 0 then return end
    local share = math.max(1, math.floor(room / #connectors))
    for _, connector in ipairs(connectors) do
      local mine = shard .. ':ready:' .. connector
      local lanes, left, turns_of = redis.call('ZRANGE', mine, 0, 63), math.min(share, room), {}
      for _, lane in ipairs(lanes) do
        if left > 0 and SCANS > 0 then
          SCANS = SCANS - 1
          local before = room
          local fate = serve(lane, math.max(1, math.floor(math.min(share, left) / #lanes)))
          left = left - (before - room)
          if fate == EMPTY then unready(lane) elseif fate == MORE then
            turns_of[#turns_of + 1] = turn()
            turns_of[#turns_of + 1] = lane
          end
        end
      end
      if #turns_of > 0 then redis.call('ZADD', mine, unpack(turns_of)) end
      if redis.call('EXISTS', mine) == 1 then
        redis.call('ZADD', shard .. ':ready', turn(), connector)
      else
        redis.call('ZREM', shard .. ':ready', connector)
      end
    end
  end
end

local function promote()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', shard .. ':delayed', '-inf', now, 'LIMIT', 0, 256)) do
    redis.call('ZREM', shard .. ':delayed', id)
    local packed = redis.call('HGET', runs, id)
    if packed then
      local run = cmsgpack.unpack(packed)
      redis.call('ZADD', shard .. ':lane:' .. run.lane, run.tag, id)
      if not rouse(run.lane) then overtakes(run.lane, id) end
    end
  end
end

local function each(command, key, values)
  for at = 1, #values, 1000 do redis.call(command, key, unpack(values, at, math.min(at + 999, #values))) end
end

-- Writes what was leased, and fetches the bodies. Leases come first of all, so that nothing taken out of a lane is ever lost.
local function commit()
  each('ZADD', shard .. ':leases', leased)
  each('HSET', runs, changed)
  if fence then redis.call('SET', shard .. ':fence', string.format('%.0f', fence)) end
  local tags = {}
  for lane, at in pairs(virtual) do
    tags[#tags + 1] = lane
    tags[#tags + 1] = at
    redis.call('ZREMRANGEBYSCORE', shard .. ':flows:' .. lane, '-inf', at)
  end
  each('HSET', shard .. ':virtual', tags)
  for at = 1, #ids, 1000 do
    local bodies = redis.call('HMGET', calls, unpack(ids, at, math.min(at + 999, #ids)))
    for index, body in ipairs(bodies) do out[5 * (at + index - 1)] = body end
  end
end

local function serve_all()
  promote()
  -- Every other claim begins with the lanes that have a turn, so that one limit with much to do leaves room to the others.
  if tonumber(sequence) % 2 == 1 then serve_ready() end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', shard .. ':moves', '-inf', now, 'LIMIT', 0, 256)) do
    if room > 0 and SCANS > 0 then serve_parked(key) end
  end
  serve_ready()
end

if epoch ~= '' and (redis.call('GET', shard .. ':epoch') ~= epoch or took_over()) then
  return {'forgot', now, -1, {}, (stepped_by(0, 0, 0))}
end
stepped, doubtful = stepped_by(expected, known, proven)
local remembered = redis.call('GET', memo_key)
if remembered then
  local previous = cmsgpack.unpack(remembered)
  if previous.sequence == sequence then
    again(previous.claims)
    return {'claimed', now, next_due(), out, stepped}
  end
end
if doubtful then return {'claimed', now, now, {}, stepped} end
-- Lua has no rollback: what was taken before something failed is leased and charged all the same, and reaped later.
local served, failure = pcall(serve_all)
commit()
keep()
if not served then error(failure, 0) end
if #out > 0 then redis.call('SET', memo_key, cmsgpack.pack({sequence = sequence, claims = memo}), 'EX', 3600) end
local due = redis.call('EXISTS', shard .. ':ready') == 1 and now or next_due()
-- What this worker has no room for is for the others, who may sleep.
if room == 0 and due >= 0 and due <= now then redis.call('PUBLISH', shard .. ':wake', 1) end
return {'claimed', now, due, out, stepped}
