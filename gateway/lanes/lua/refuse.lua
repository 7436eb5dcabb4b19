-- refuse: end what never reaches a lane: publish its result, letter and events, count it, acknowledge its source. A duplicate whose answer
-- came from the journal ends here too, and that answer is in Redis again.
-- Idempotent: an entry that is no longer pending changes nothing.
-- KEYS[1] shard    tag     prefix of stats, alone, letters, offsets, aside and answer:* (hashes), marks:* (zsets)
-- KEYS[2] source   stream  where bus entries are acknowledged; of another bus the shard's marks are
-- KEYS[3] results  stream  result events
-- KEYS[4] events   stream  lifecycle events
-- KEYS[5] letters  stream  dead letters
-- ARGV[1] group    string  consumer group of the source; empty: another bus
-- ARGV[2] items    msgpack list of {entry, counts, events, result?, letter?, opens?, id?, attempts_json?, answer_ttl_s}; opens is how its
--                  letter stands
-- RETURN  list of "refused" | "seen"
local shard, source, results, events, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, items, answers = ARGV[1], cmsgpack.unpack(ARGV[2]), {}
-- USES letters, topics, source

local unfit = misfit({source, results, events, letters})
if unfit then return unfit end

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
    redis.call('HSET', answer, 'event', item.result, 'attempts', item.attempts_json or '[]')
    redis.call('EXPIRE', answer, item.answer_ttl_s)
  end
  redis.call('HDEL', shard .. ':alone', item.entry)
  return 'refused'
end

for index, item in ipairs(items) do answers[index] = refuse(item) end
return answers
