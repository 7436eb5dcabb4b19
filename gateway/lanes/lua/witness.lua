-- witness: note how attempts of lanes ended, in two slices of time. A reply that is lost is not asked for again: these are no accounts.
-- KEYS[1] shard     tag      prefix of evidence (hash)
-- ARGV[1] items     msgpack  list of {lane, ok, failed, ms, squares, failure, message, last}
-- ARGV[2] slice_us  int      how long a slice is
-- ARGV[3] most      int      how many lanes are kept; beyond them one that chance names is forgotten
-- RETURN  how many were noted
local shard, items, slice_us, most = KEYS[1], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local evidence, slice = shard .. ':evidence', math.floor(now / slice_us)

local function turned(kept)
  if kept.slice == slice then return kept end
  local none = {ok = 0, failed = 0, ms = 0, squares = 0}
  kept.before = kept.slice == slice - 1 and kept.sums or none
  kept.slice, kept.sums = slice, {ok = 0, failed = 0, ms = 0, squares = 0}
  return kept
end

for _, item in ipairs(items) do
  local packed = redis.call('HGET', evidence, item.lane)
  local kept = turned(packed and cmsgpack.unpack(packed) or {slice = -1, ok_us = 0, failed_us = 0, failure = '', message = ''})
  for name in pairs(kept.sums) do kept.sums[name] = kept.sums[name] + item[name] end
  if item.ok > 0 then kept.ok_us = item.last == 'ok' and now or now - 1 end
  if item.failed > 0 then
    kept.failed_us = item.last == 'failed' and now or now - 1
    kept.failure, kept.message = item.failure, item.message
  end
  redis.call('HSET', evidence, item.lane, cmsgpack.pack(kept))
end
for _ = most + 1, redis.call('HLEN', evidence) do redis.call('HDEL', evidence, redis.call('HRANDFIELD', evidence)) end
return #items
