-- tally: count what a reader found in a topic, and move on in it: one step, so that every entry is counted once whoever reads.
-- Counts stand under the time of the entries, not under that of reading: what is read late counts where it happened.
-- Idempotent: the second time the place in the topic has moved. Beyond `most` names those not seen longest are forgotten.
-- KEYS[1] shard   tag     prefix of cursors, tallies (hashes), tallied (zset)
-- ARGV[1] name    string  who reads
-- ARGV[2] before  string  the place as it was found; empty for none
-- ARGV[3] after   string  the last entry that is counted
-- ARGV[4] items   msgpack list of {name, at_ms, count, width_ms, keep_ms, sample}
-- ARGV[5] most    int     names that are kept
-- RETURN  "moved" or "stale"
local shard, name, before, after = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local items, most = cmsgpack.unpack(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local cursors, tallies, tallied = shard .. ':cursors', shard .. ':tallies', shard .. ':tallied'
if (redis.call('HGET', cursors, name) or '') ~= before then return 'stale' end

local function forget(ends)
  for _, old in ipairs(ends) do
    redis.call('HDEL', tallies, old)
    redis.call('ZREM', tallied, old)
  end
end

for _, item in ipairs(items) do
  local packed = redis.call('HGET', tallies, item.name)
  local kept = packed and cmsgpack.unpack(packed) or {total = 0, starts = {}, counts = {}, last_ms = 0}
  local start = item.at_ms - item.at_ms % item.width_ms
  local starts, counts, found = {}, {}, false
  for index, at in ipairs(kept.starts) do
    if at > now - item.keep_ms then
      local more = at == start and item.count or 0
      found = found or at == start
      starts[#starts + 1], counts[#counts + 1] = at, kept.counts[index] + more
    end
  end
  if not found then starts[#starts + 1], counts[#counts + 1] = start, item.count end
  if item.at_ms >= kept.last_ms then kept.sample, kept.last_ms = item.sample, item.at_ms end
  kept.starts, kept.counts, kept.total, kept.keep_ms = starts, counts, kept.total + item.count, item.keep_ms
  redis.call('HSET', tallies, item.name, cmsgpack.pack(kept))
  redis.call('ZADD', tallied, kept.last_ms + item.keep_ms, item.name)
end
forget(redis.call('ZRANGEBYSCORE', tallied, '-inf', now))
forget(redis.call('ZRANGE', tallied, 0, -1 - most))
redis.call('HSET', cursors, name, after)
return 'moved'
