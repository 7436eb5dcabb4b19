-- restore: write down how letters stand of which that was lost. What is known to be open or over is left as it is.
-- Idempotent: what was written down is known.
-- KEYS[1] shard   tag      prefix of letters, over, runs (hashes), aging (zset)
-- KEYS[2] topic   stream   dead letters; one that does not lie there any more is not restored
-- KEYS[3] events  stream   lifecycle events
-- ARGV[1] items   msgpack  list of {letter, entry, over?, state?, call?, doubted?, event?}; over is what became of it, state how it stands;
--                          call is the one that replays it, as far as that is known, and while it lives it moves the letter; doubted is
--                          how it stands when nobody can tell what became of it, which event tells
-- RETURN  list of "gone" | "open" | "over" | "closed" | "replaying" | "doubted" | "restored", in the order of the items
local shard, topic, events, items, answers = KEYS[1], KEYS[2], KEYS[3], cmsgpack.unpack(ARGV[1]), {}
-- USES letters, topics

local unfit = misfit({topic, events})
if unfit then return unfit end

local function restore(item)
  if letter_of(item.letter) then return 'open' end
  if redis.call('HEXISTS', shard .. ':over', item.letter) == 1 then return 'over' end
  if redis.call('EXISTS', topic) == 0 or #redis.call('XRANGE', topic, item.entry, item.entry) == 0 then return 'gone' end
  if item.over then
    redis.call('HSET', shard .. ':over', item.letter, cmsgpack.pack(item.over))
    redis.call('ZADD', shard .. ':aging', item.over.at_us, item.letter)
    return 'closed'
  end
  if item.call and redis.call('HEXISTS', shard .. ':runs', item.call) == 1 then
    keep_letter(item.letter, item.state)
    return 'replaying'
  end
  if item.doubted then
    keep_letter(item.letter, item.doubted)
    redis.call('XADD', events, '*', 'data', item.event)
    return 'doubted'
  end
  keep_letter(item.letter, item.state)
  return 'restored'
end

for index, item in ipairs(items) do answers[index] = restore(item) end
return answers
