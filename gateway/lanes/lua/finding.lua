-- finding: note how answers differed from their contracts; the first sighting of a difference is told, later ones are counted.
-- Idempotent: a sighting by the call that was noted last counts once. Beyond `most` those that were not seen longest are forgotten.
-- KEYS[1] shard   tag      prefix of findings (hash), sightings (zset)
-- KEYS[2] events  stream   lifecycle events
-- ARGV[1] items   msgpack  list of {fingerprint, tool, call, count, finding, event}
-- ARGV[2] most    int      how many are kept
-- RETURN  list of "new" | "known", in the order of the items
local shard, events, items, most = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local findings, sightings, answers = shard .. ':findings', shard .. ':sightings', {}

for index, item in ipairs(items) do
  local packed = redis.call('HGET', findings, item.fingerprint)
  local kept = packed and cmsgpack.unpack(packed) or
    {finding = item.finding, tool = item.tool, first_us = now, count = 0, state = 'open'}
  if kept.call ~= item.call then kept.count = kept.count + item.count end
  kept.last_us, kept.call, kept.finding = now, item.call, item.finding
  redis.call('HSET', findings, item.fingerprint, cmsgpack.pack(kept))
  redis.call('ZADD', sightings, now, item.fingerprint)
  answers[index] = packed and 'known' or 'new'
  if not packed then redis.call('XADD', events, '*', 'data', item.event) end
end
local over = redis.call('ZCARD', sightings) - most
if over > 0 then
  for _, fingerprint in ipairs(redis.call('ZRANGE', sightings, 0, over - 1)) do
    redis.call('HDEL', findings, fingerprint)
    redis.call('ZREM', sightings, fingerprint)
  end
end
return answers
