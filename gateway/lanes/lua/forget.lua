-- forget: take letters that were over long enough off their topic, wherever they lie in it, with what is told of them. One that a group may
-- still want stays: our own group's as long as it takes, another's for its time. Their files are removed after this, when nothing
-- names them any more. An open letter is never among them.
-- Idempotent: what is gone is not found again.
-- KEYS[1] shard   tag     prefix of over, letters (hashes), aging (zset)
-- KEYS[2] topic   stream  dead letters
-- ARGV[1] own     string  our consumer group; where it is missing it holds nothing back
-- ARGV[2] keep_us int     how long a letter that is over stays
-- ARGV[3] wait_us int     how long a foreign group may hold entries back
-- ARGV[4] skip    int     of those that are due, how many were found to be held back
-- ARGV[5] most    int     letters that are looked at
-- RETURN  {how many were looked at, letters that were forgotten}
local shard, topic, own = KEYS[1], KEYS[2], ARGV[1]
local keep, wait, skip, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES groups, letters, topics

local unfit = misfit({topic})
if unfit then return unfit end

local due = redis.call('ZRANGEBYSCORE', shard .. ':aging', '-inf', string.format('%.0f', now - keep), 'LIMIT', skip, most)
if #due == 0 then return {0, {}} end
local ms = math.floor(now / 1000)
local there = redis.call('EXISTS', topic) == 1
local floor = there and wanted_from(topic, own, entry_of(ms + 86400000), entry_of(ms - math.floor(wait / 1000)))

local gone = {}
for _, id in ipairs(due) do
  local packed = redis.call('HGET', shard .. ':over', id)
  local entry = packed and cmsgpack.unpack(packed).entry
  -- What was opened again by hand is open, whatever stands here.
  local again = letter_of(id)
  if again or not entry or not there or before(entry, floor) then
    if entry and there and not again then redis.call('XDEL', topic, entry) end
    redis.call('HDEL', shard .. ':over', id)
    redis.call('ZREM', shard .. ':aging', id)
    if not again then table.insert(gone, id) end
  end
end
return {#due, gone}
