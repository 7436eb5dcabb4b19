-- gates: close a gate for a reason and open it again. The including script binds `shard` and `now`.
-- gates (hash: key -> the closings of it, by reason), parked:* and moves (zsets): who waits for it is looked at again.
local function closings_of(key)
  local packed = redis.call('HGET', shard .. ':gates', key)
  return packed and cmsgpack.unpack(packed) or {}
end

local function keep_closings(key, closings)
  if next(closings) == nil then
    redis.call('HDEL', shard .. ':gates', key)
  else
    redis.call('HSET', shard .. ':gates', key, cmsgpack.pack(closings))
  end
end

-- Lanes that wait for it, or for a place among the few that may try, are looked at again at `at`; the workers are told, to plan for it.
local function look_again(key, at)
  for _, waited in ipairs({key, key .. '~'}) do
    if redis.call('EXISTS', shard .. ':parked:' .. waited) == 1 then
      redis.call('ZADD', shard .. ':moves', at, waited)
      redis.call('PUBLISH', shard .. ':wake', 1)
    end
  end
end

-- until_us 0: until it is opened; most: so many at once when its time has passed, nil for all. What was closed stays so since then.
local function close_gate(key, reason, until_us, detail, most)
  local closings = closings_of(key)
  local since = closings[reason] and closings[reason].since_us or now
  closings[reason] = {since_us = since, until_us = until_us, detail = detail, most = most}
  keep_closings(key, closings)
  if until_us > 0 then look_again(key, until_us) end
end

local function open_gate(key, reason)
  local closings = closings_of(key)
  if not closings[reason] then return end
  closings[reason] = nil
  keep_closings(key, closings)
  look_again(key, now)
end
