-- breaker_flush: add what the breakers of one process saw to what all saw, and return the sums. Judges nothing.
-- Idempotent: the same (worker, sequence) adds nothing again. Evidence of another generation is left out.
-- KEYS[1] shard     tag     prefix of standings, breaker:* (hashes), flushed:* (strings)
-- ARGV[1] worker    string  name of the process
-- ARGV[2] sequence  int     number of this flush of the process; 0 only asks, and is no number of a flush
-- ARGV[3] buckets   int     parts of a window
-- ARGV[4] items     msgpack list of {key, generation, window_us, counts, row, broken, successes, release}; counts is a list of
--                   {age in buckets, calls, failures, slow}, release the token of a probe that has ended
-- RETURN  {now_us, list of {packed standing or "", row, successes, {age, calls, failures, slow, ...}}}
local shard, worker, sequence, buckets, items = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
local memo = shard .. ':flushed:' .. worker
local fresh = redis.call('GET', memo) ~= sequence

local function counts_of(text)
  local calls, failures, slow = string.match(text or '', '^(%d+):(%d+):(%d+)$')
  return tonumber(calls or 0), tonumber(failures or 0), tonumber(slow or 0)
end

local function add(sums, item, current)
  for _, count in ipairs(item.counts) do
    local bucket = string.format('b%.0f', current - count[1])
    local calls, failures, slow = counts_of(redis.call('HGET', sums, bucket))
    redis.call('HSET', sums, bucket, string.format('%.0f:%.0f:%.0f', calls + count[2], failures + count[3], slow + count[4]))
  end
  if item.broken then redis.call('HSET', sums, 'row', item.row) else redis.call('HINCRBY', sums, 'row', item.row) end
  redis.call('HINCRBY', sums, 'successes', item.successes)
end

-- What has left the window is forgotten on the way.
local function ages_of(sums, current)
  local ages, kept = {}, redis.call('HGETALL', sums)
  for index = 1, #kept, 2 do
    local bucket = tonumber(string.match(kept[index], '^b(%d+)$'))
    if bucket and current - bucket >= buckets then
      redis.call('HDEL', sums, kept[index])
    elseif bucket then
      local calls, failures, slow = counts_of(kept[index + 1])
      for _, value in ipairs({math.max(0, current - bucket), calls, failures, slow}) do ages[#ages + 1] = value end
    end
  end
  return ages
end

local function share(item)
  local sums, packed = shard .. ':breaker:' .. item.key, redis.call('HGET', shard .. ':standings', item.key)
  local current = math.floor(now / math.ceil(item.window_us / buckets))
  local generation = packed and cmsgpack.unpack(packed).generation or 0
  if item.release ~= '' and redis.call('HGET', sums, 'token') == item.release then
    redis.call('HDEL', sums, 'worker', 'token', 'lease_us')
  end
  if fresh and generation == item.generation then
    add(sums, item, current)
    redis.call('PEXPIRE', sums, math.ceil(item.window_us / 1000) + 86400000)
  end
  local kept = redis.call('HMGET', sums, 'row', 'successes')
  return {packed or '', tonumber(kept[1] or 0), tonumber(kept[2] or 0), ages_of(sums, current)}
end

for index, item in ipairs(items) do answers[index] = share(item) end
if sequence ~= '0' then redis.call('SET', memo, sequence, 'PX', 3600000) end
return {now, answers}
