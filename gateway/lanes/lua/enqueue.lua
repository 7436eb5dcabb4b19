-- enqueue: claim each call's idempotency scope, store the call, put it into its lane, tell `tool-events`, acknowledge its source.
-- Idempotent: an entry that is no longer pending, or a call id that is known, changes nothing. A full lane or a conflict
-- changes nothing either (and leaves the entry pending): the caller refuses it with `refuse`.
-- KEYS[1] shard    tag     prefix of calls (hash), runs (hash), ready (zset), lane:* (zset), idem:* (string), answer:*, stats, held (hashes)
-- KEYS[2] source   stream  where bus entries are acknowledged
-- KEYS[3] results  stream  stored results are published again for duplicates from the bus
-- KEYS[4] events   stream  lifecycle events
-- ARGV[1] group    string  consumer group of the source
-- ARGV[2] items    msgpack list of {id, lane, scope, print, body, event, timeout_us, deadline_us, limit, entry?}
-- RETURN  list of {"admitted", id} | {"duplicate", id} | {"conflict", id} | {"full", waiting} | {"seen", entry}
local shard, source, results, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, items = ARGV[1], cmsgpack.unpack(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local accepted, duplicates, answers = 0, 0, {}

-- Lua has no rollback: what would fail in the middle is looked for before the first write.
for _, stream in ipairs({source, results, events}) do
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'stream' and kind ~= 'none' then return redis.error_reply('MISFIT ' .. stream .. ' holds a ' .. kind .. ', not a stream') end
end

local function acknowledged(item)
  return item.entry == nil or redis.call('XACK', source, group, item.entry) == 1
end

local function duplicate(item, call)
  if not acknowledged(item) then return {'seen', item.entry} end
  duplicates = duplicates + 1
  if item.entry then
    local stored = redis.call('HGET', shard .. ':answer:' .. call, 'event')
    if stored then redis.call('XADD', results, '*', 'data', stored) end
  end
  return {'duplicate', call}
end

local function admit(item)
  if not acknowledged(item) then return {'seen', item.entry} end
  local run = {
    state = 'pending', lane = item.lane, scope = item.scope, fence = 0, seq = 1, attempts = 0, tries = 0, crashes = 0, marked = 0,
    first_us = 0,
    effect = 'not_executed', tag = now, since = now, timeout_us = item.timeout_us, deadline_us = item.deadline_us, history = '[]',
  }
  redis.call('SET', shard .. ':idem:' .. item.scope, item.id .. '|' .. item.print)
  redis.call('HSET', shard .. ':calls', item.id, item.body)
  redis.call('HSET', shard .. ':runs', item.id, cmsgpack.pack(run))
  redis.call('ZADD', shard .. ':lane:' .. item.lane, now, item.id)
  redis.call('ZADD', shard .. ':ready', 'NX', now, item.lane)
  redis.call('HINCRBY', shard .. ':held', item.lane, 1)
  redis.call('XADD', events, '*', 'data', item.event)
  accepted = accepted + 1
  return {'admitted', item.id}
end

local function decide(item)
  local claim = redis.call('GET', shard .. ':idem:' .. item.scope)
  if not claim then
    -- All that have not ended count, also those in back-off: a dead vendor's lane must fill up.
    local held = tonumber(redis.call('HGET', shard .. ':held', item.lane) or '0')
    if held >= item.limit then return {'full', held} end
    return admit(item)
  end
  local call, print = string.match(claim, '^([^|]*)|(.*)$')
  if call == item.id then return {'admitted', call} end
  if print ~= item.print then return {'conflict', call} end
  return duplicate(item, call)
end

for index, item in ipairs(items) do answers[index] = decide(item) end
if accepted > 0 then
  redis.call('HINCRBY', shard .. ':stats', 'accepted', accepted)
  redis.call('PUBLISH', shard .. ':wake', accepted)
end
if duplicates > 0 then redis.call('HINCRBY', shard .. ':stats', 'duplicates', duplicates) end
if accepted + duplicates > 0 then redis.call('HINCRBY', shard .. ':stats', 'received', accepted + duplicates) end
return answers
