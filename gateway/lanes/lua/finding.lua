-- finding: note how answers differed from their contracts; the first sighting of a difference is told, later ones are counted.
-- Idempotent: a sighting by the call that was noted last counts once. Beyond `most` those that were not seen longest are forgotten.
-- A tool has so many new ones told in an hour; the others are only listed.
-- KEYS[1] shard   tag      prefix of findings (hash), sightings (zset), told:* (counters, for an hour)
-- KEYS[2] events  stream   lifecycle events
-- KEYS[3] alerts  stream   what a person must look at
-- ARGV[1] items   msgpack  list of {fingerprint, tool, call, count, finding, event, alert}; an empty alert is none
-- ARGV[2] most    int      how many are kept
-- ARGV[3] loud    int      how many new ones of a tool are told in an hour
-- RETURN  list of "new" | "known" | "muted" | "flood", in the order of the items; flood is the first of a tool that is muted
local shard, events, alerts, items = KEYS[1], KEYS[2], KEYS[3], cmsgpack.unpack(ARGV[1])
local most, loud, time = tonumber(ARGV[2]), tonumber(ARGV[3]), redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local findings, sightings, answers = shard .. ':findings', shard .. ':sightings', {}

local function publish(stream, event) redis.call('XADD', stream, '*', 'data', event) end

local function fate(item)
  local told = shard .. ':told:' .. item.tool
  local count = redis.call('INCR', told)
  if count == 1 then redis.call('PEXPIRE', told, 3600000) end
  return count <= loud and 'new' or count == loud + 1 and 'flood' or 'muted'
end

for index, item in ipairs(items) do
  local packed = redis.call('HGET', findings, item.fingerprint)
  local kept = packed and cmsgpack.unpack(packed) or
    {finding = item.finding, tool = item.tool, first_us = now, count = 0, state = 'open'}
  if kept.call ~= item.call then kept.count = kept.count + item.count end
  kept.last_us, kept.call, kept.finding = now, item.call, item.finding
  redis.call('HSET', findings, item.fingerprint, cmsgpack.pack(kept))
  redis.call('ZADD', sightings, now, item.fingerprint)
  answers[index] = packed and 'known' or fate(item)
  if answers[index] == 'new' then
    publish(events, item.event)
    if item.alert ~= '' then publish(alerts, item.alert) end -- 'contract.finding'
  end
end
local over = redis.call('ZCARD', sightings) - most
if over > 0 then
  for _, fingerprint in ipairs(redis.call('ZRANGE', sightings, 0, over - 1)) do
    redis.call('HDEL', findings, fingerprint)
    redis.call('ZREM', sightings, fingerprint)
  end
end
return answers
