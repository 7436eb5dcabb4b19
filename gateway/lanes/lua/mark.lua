-- mark: record that sending is about to begin, if the claim is still the caller's and its lease outlives the attempt.
-- Idempotent: marking twice under one fence is one mark.
-- KEYS[1] shard  tag     prefix of runs (hash)
-- ARGV[1] items  msgpack list of {id, fence}
-- RETURN  list of "marked" | "lost"
local shard, items, answers = KEYS[1], cmsgpack.unpack(ARGV[1]), {}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function mark(item)
  local packed = redis.call('HGET', shard .. ':runs', item.id)
  if not packed then return 'lost' end
  local run = cmsgpack.unpack(packed)
  if run.fence ~= item.fence or run.state ~= 'processing' or now + run.timeout_us > run.lease_us then return 'lost' end
  run.marked = item.fence
  redis.call('HSET', shard .. ':runs', item.id, cmsgpack.pack(run))
  return 'marked'
end

for index, item in ipairs(items) do answers[index] = mark(item) end
return answers
