-- refuse: end what never reached a lane: publish its result, letter and events, count it, acknowledge its source.
-- Idempotent: an entry that is no longer pending changes nothing.
-- KEYS[1] shard    tag     prefix of stats, alone, letters, offsets and answer:* (hashes), marks:* (zsets), idem:* (strings)
-- KEYS[2] source   stream  where bus entries are acknowledged; of another bus the shard's marks are
-- KEYS[3] results  stream  result events
-- KEYS[4] events   stream  lifecycle events
-- KEYS[5] letters  stream  dead letters
-- ARGV[1] group    string  consumer group of the source; empty: another bus
-- ARGV[2] items    msgpack list of {entry, counts, events, result?, letter?, opens?, id?, answer_ttl_s}; opens is how its letter stands
-- RETURN  list of "refused" | "seen"
local shard, source, results, events, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, items, answers = ARGV[1], cmsgpack.unpack(ARGV[2]), {}
-- USES letters, source

-- Lua has no rollback: what would fail in the middle is looked for before the first write.
for _, stream in ipairs({source, results, events, letters}) do
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'stream' and kind ~= 'none' then return redis.error_reply('MISFIT ' .. stream .. ' holds a ' .. kind .. ', not a stream') end
end

local function refuse(item)
  if not acknowledged(item.entry) then return 'seen' end
  for _, name in ipairs(item.counts) do redis.call('HINCRBY', shard .. ':stats', name, 1) end
  for _, event in ipairs(item.events) do redis.call('XADD', events, '*', 'data', event) end
  if item.letter then
    local entry = redis.call('XADD', letters, '*', 'data', item.letter)
    if item.opens then
      item.opens.state.entry = entry
      keep_letter(item.opens.id, item.opens.state)
    end
  end
  if item.result then
    redis.call('XADD', results, '*', 'data', item.result)
    local answer = shard .. ':answer:' .. item.id
    redis.call('HSET', answer, 'event', item.result, 'attempts', '[]')
    redis.call('EXPIRE', answer, item.answer_ttl_s)
  end
  redis.call('HDEL', shard .. ':alone', item.entry)
  return 'refused'
end

for index, item in ipairs(items) do answers[index] = refuse(item) end
return answers
