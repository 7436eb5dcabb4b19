-- mark: record that sending is about to begin, if the claim is still the caller's and its lease outlives the attempt.
-- Where a copy must hold the mark, only a caller that waits for it on the same connection may write one.
-- Idempotent: marking twice under one fence is one mark.
-- KEYS[1] shard     tag     prefix of runs (hash), replicated (string)
-- ARGV[1] items     msgpack list of {id, fence}
-- ARGV[2] replicas  int     how many must hold a mark; -1: one, once this state has had one
-- ARGV[3] awaited   int     for how many the caller waits afterwards
-- RETURN  {how many must hold it, list of "marked" | "lost"}; the list is empty where the caller must wait for more
local shard, items, replicas, awaited, answers = KEYS[1], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {}
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

if replicas < 0 then replicas = redis.call('EXISTS', shard .. ':replicated') end
if awaited < replicas then return {replicas, answers} end
for index, item in ipairs(items) do answers[index] = mark(item) end
return {replicas, answers}
