-- claim: give a worker up to `room` calls, lanes in turn, each under a lease with a fence of its own.
-- Idempotent: the same (worker, sequence) gets the same claims again, so that a lost reply parks nothing.
-- KEYS[1] shard     tag     prefix of calls, runs (hashes), ready, lane:*, delayed, leases (zsets), fence, memo:* (strings)
-- ARGV[1] worker    string  name of the claiming worker
-- ARGV[2] sequence  int     number of this claim of the worker
-- ARGV[3] room      int     how many calls the worker has room for
-- ARGV[4] grace_us  int     lease beyond the call's timeout: time to start plus the guard
-- RETURN  {"claimed", now_us, {id, fence, lease_us, run, body, ...}} | {"empty", now_us, next_due_us or -1}
local shard, worker, sequence = KEYS[1], ARGV[1], ARGV[2]
local room, grace = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ready, runs, calls = shard .. ':ready', shard .. ':runs', shard .. ':calls'
local memo_key = shard .. ':memo:' .. worker
local out, memo = {}, {}

local function give(id, run, packed)
  out[#out + 1] = id
  out[#out + 1] = run.fence
  out[#out + 1] = run.lease_us
  out[#out + 1] = packed
  out[#out + 1] = redis.call('HGET', calls, id)
end

local function again(previous)
  for index = 1, #previous, 2 do
    local packed = redis.call('HGET', runs, previous[index])
    if packed then
      local run = cmsgpack.unpack(packed)
      if run.fence == previous[index + 1] and run.state == 'processing' then give(previous[index], run, packed) end
    end
  end
end

local function lease(id)
  local packed = redis.call('HGET', runs, id)
  if not packed then return 0 end
  local run = cmsgpack.unpack(packed)
  run.state, run.marked, run.since = 'processing', 0, now
  run.fence = redis.call('INCR', shard .. ':fence')
  run.lease_us = now + run.timeout_us + grace
  packed = cmsgpack.pack(run)
  redis.call('HSET', runs, id, packed)
  redis.call('ZADD', shard .. ':leases', run.lease_us, id)
  memo[#memo + 1] = id
  memo[#memo + 1] = run.fence
  give(id, run, packed)
  return 1
end

local function take(lane, most)
  local taken, popped = 0, redis.call('ZPOPMIN', shard .. ':lane:' .. lane, most)
  for index = 1, #popped, 2 do taken = taken + lease(popped[index]) end
  if #popped / 2 < most then redis.call('ZREM', ready, lane) else redis.call('ZADD', ready, now, lane) end
  return taken
end

local function promote()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', shard .. ':delayed', '-inf', now, 'LIMIT', 0, 256)) do
    redis.call('ZREM', shard .. ':delayed', id)
    local packed = redis.call('HGET', runs, id)
    if packed then
      local run = cmsgpack.unpack(packed)
      redis.call('ZADD', shard .. ':lane:' .. run.lane, run.tag, id)
      redis.call('ZADD', ready, 'NX', now, run.lane)
    end
  end
end

local remembered = redis.call('GET', memo_key)
if remembered then
  local previous = cmsgpack.unpack(remembered)
  if previous.sequence == sequence then
    again(previous.claims)
    return {'claimed', now, out}
  end
end
promote()
while room > 0 do
  local lanes = redis.call('ZRANGE', ready, 0, 63)
  if #lanes == 0 then break end
  local share = math.max(1, math.floor(room / #lanes))
  for _, lane in ipairs(lanes) do
    if room > 0 then room = room - take(lane, math.min(share, room)) end
  end
end
if #out > 0 then
  redis.call('SET', memo_key, cmsgpack.pack({sequence = sequence, claims = memo}), 'EX', 3600)
  return {'claimed', now, out}
end
local due = redis.call('ZRANGE', shard .. ':delayed', 0, 0, 'WITHSCORES')
return {'empty', now, due[2] and tonumber(due[2]) or -1}
