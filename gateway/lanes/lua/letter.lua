-- letter: write down what an operator decided about letters. Only an open letter takes a decision; whoever comes later is told how it stands.
-- Idempotent: a decision that was taken is not taken again.
-- KEYS[1] shard   tag      prefix of letters, over, answer:* (hashes), aging (zset), idem:* (strings)
-- KEYS[2] events  stream   lifecycle events
-- ARGV[1] items   msgpack  list of {letter, status, effect?, by, reason, event, scope_ttl_s, answer_ttl_s}; a final status forgets the letter
--                          in its time; `open` with an effect decides what was unknown
-- RETURN  list of {"changed"} | {"status", status} | {"known", effect} | {"gone"}, in the order of the items
local shard, events, items, answers = KEYS[1], KEYS[2], cmsgpack.unpack(ARGV[1]), {}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES letters, over, topics

local unfit = misfit({events})
if unfit then return unfit end

local function change(item)
  local state = letter_of(item.letter)
  if not state then return {'gone'} end
  if state.status ~= 'open' then return {'status', state.status} end
  if item.status == 'open' then
    if state.effect ~= 'unknown' then return {'known', state.effect} end
    state.effect, state.by, state.first_us = item.effect, item.by, 0
    keep_letter(item.letter, state)
  else
    local told = {status = item.status, effect = item.effect, by = item.by, reason = item.reason, at_us = now}
    close_letter(item.letter, state, told, item)
  end
  redis.call('XADD', events, '*', 'data', item.event)
  return {'changed'}
end

for index, item in ipairs(items) do answers[index] = change(item) end
return answers
