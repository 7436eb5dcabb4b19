-- enqueue: claim each call's idempotency scope, store the call, put it into its lane, tell `tool-events`, acknowledge its source.
-- Idempotent: an entry that is no longer pending, or a call id that is known, changes nothing. What the lanes will not take
-- (a full lane, too many bytes, a deadline that cannot be met, a conflict) changes nothing either and leaves the entry pending:
-- the caller refuses it with `refuse`. So does a duplicate whose answer only the journal has: the caller fetches it, and ends it with `refuse`.
-- KEYS[1] shard        tag      prefix of calls, runs, parks, plans, gates, virtual, spent:*, answer:*, stats, held, bytes, letters, replays,
--                      offsets, aside, progress:* (hashes), marks:* (zsets),
--                      ready, ready:*, lane:*, flows:*, parked:*, deadlines, slots:*, moves, delayed, reviews (zsets), idem:*, forgot,
--                      watermark (strings)
-- KEYS[2] source       stream   where bus entries are acknowledged; of another bus, the shard's marks are
-- KEYS[3] results      stream   stored results are published again for duplicates from the bus
-- KEYS[4] events       stream   lifecycle events
-- ARGV[1] group        string   consumer group of the source; empty: another bus
-- ARGV[2] items        msgpack  list of {id, lane, scope, print, body, event, timeout_us, deadline_us, limit, flow, weight, costs?, entry?,
--                               review?, takes?, sent_us?}; a call with a review waits for a person, and has no place in its lane yet; one that takes a
--                               letter replays it, which only one call can at a time, and only while its replay is running;
--                               one with sent_us may have been sent since then, and this state has lost it
-- ARGV[3] plans        msgpack  connector|operation -> what its calls take of which limits; kept where nothing is known yet
-- ARGV[4] most_bytes   int      bytes the calls of a tenant may take together
-- RETURN  list of {"admitted", id} | {"duplicate", id} | {"conflict", id} | {"full", waiting} | {"heavy", bytes} | {"flooded", 0} |
--         {"late", eta_us} | {"seen", entry} | {"barred", "closed" | "halted" | status} | {"journalled", id}
local shard, source, results, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, items, offered, most_bytes = ARGV[1], cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, pacing, forecast, letters, topics, source
local TENANT = 'default'
-- A duplicate that waits for the journal must not outlive what makes it one: its scope is kept so long from each look at it.
local WAITS_S = 86400
local accepted, duplicates, woken, answers = 0, 0, 0, {}
local queued = tonumber(redis.call('HGET', shard .. ':bytes', TENANT) or '0')
local flooded = redis.call('EXISTS', shard .. ':watermark') == 1

local unfit = misfit({source, results, events})
if unfit then return unfit end

local function duplicate(item, call)
  local stored = item.entry and redis.call('HGET', shard .. ':answer:' .. call, 'event')
  if item.entry and not stored and redis.call('HEXISTS', shard .. ':runs', call) == 0 then
    redis.call('EXPIRE', shard .. ':idem:' .. item.scope, WAITS_S, 'GT')
    return {'journalled', call}
  end
  if not acknowledged(item.entry) then return {'seen', item.entry} end
  duplicates = duplicates + 1
  if stored then redis.call('XADD', results, '*', 'data', stored) end
  return {'duplicate', call}
end

-- The start tag of start-time fair queueing: behind the flow's last call, never before the lane's virtual time.
local function tag_of(item)
  local flows = shard .. ':flows:' .. item.lane
  local virtual = tonumber(redis.call('HGET', shard .. ':virtual', item.lane) or '0')
  return math.max(virtual, tonumber(redis.call('ZSCORE', flows, item.flow) or '0'))
end

-- It waits for a person, and holds nothing meanwhile but its place among the calls that have not ended.
local function ask(item, run)
  local review = item.review
  review.asked_us, review.until_us, review.flow, review.weight = now, now + review.wait_us, item.flow, item.weight
  run.state, run.review = 'waiting_for_review', review
  redis.call('ZADD', shard .. ':reviews', review.until_us, item.id)
end

-- In the step that stores its call a letter is taken, so that there is never one without the other.
local function take(takes, call)
  local state = letter_of(takes.letter)
  state.status, state.replay, state.by, state.count = 'replaying', takes.replay, takes.by, state.count + 1
  keep_letter(takes.letter, state)
  redis.call('HSET', shard .. ':progress:' .. takes.replay, takes.letter, cmsgpack.pack({status = 'replaying', call = call}))
  redis.call('XADD', events, '*', 'data', takes.event)
end

local function barred(takes)
  local state = letter_of(takes.letter)
  if not state then return 'closed' end
  if state.status ~= 'open' then return state.status end
  local packed = redis.call('HGET', shard .. ':replays', takes.replay)
  if not packed or cmsgpack.unpack(packed).state ~= 'running' then return 'halted' end
  return nil
end

-- Of a million runs what is as at the beginning would be most: it is left out, and stands in `Run` (ports/claims.py).
local function admit(item, tag)
  if not acknowledged(item.entry) then return {'seen', item.entry} end
  local run = {
    state = 'pending', lane = item.lane, scope = item.scope, tag = tag, since = now, timeout_us = item.timeout_us,
    deadline_us = item.deadline_us, costs = item.costs,
  }
  if item.takes then run.first_us, run.effect = item.takes.first_us, item.takes.effect end
  if item.sent_us then run.first_us, run.effect, run.doubtful = item.sent_us, 'unknown', true end
  if item.review then ask(item, run) end
  if item.takes then take(item.takes, item.id) end
  redis.call('SET', shard .. ':idem:' .. item.scope, item.id .. '|' .. item.print)
  redis.call('HSET', shard .. ':calls', item.id, item.body)
  redis.call('HSET', shard .. ':runs', item.id, cmsgpack.pack(run))
  if not item.review then
    redis.call('ZADD', shard .. ':lane:' .. item.lane, tag, item.id)
    redis.call('ZADD', shard .. ':flows:' .. item.lane, tag + math.floor(UNIT / item.weight), item.flow)
  end
  redis.call('ZADD', shard .. ':deadlines', item.deadline_us, item.id)
  redis.call('HINCRBY', shard .. ':held', item.lane, 1)
  redis.call('XADD', events, '*', 'data', item.event)
  if not item.review and (rouse(item.lane) or overtakes(item.lane, item.id)) then woken = woken + 1 end
  queued = queued + #item.body
  accepted = accepted + 1
  return {'admitted', item.id}
end

-- When it would start, if that is after its deadline. Only asked where calls wait already.
local function too_late(item, tag)
  if item.review or redis.call('HEXISTS', shard .. ':parks', item.lane) == 0 then return nil end
  local found = facts_of(item.lane)
  local ahead = redis.call('ZCOUNT', shard .. ':lane:' .. item.lane, '-inf', tag)
  local shut = closed(found) or forgotten(found)
  local at = (not shut or shut.reason == 'rate_limit') and eta(item.lane, found, shut, ahead, item.costs, true)
  return at and at > item.deadline_us and at or nil
end

local function decide(item)
  local claim = redis.call('GET', shard .. ':idem:' .. item.scope)
  if claim then
    local call, print = string.match(claim, '^([^|]*)|(.*)$')
    if call == item.id then return {'admitted', call} end
    if print ~= item.print then return {'conflict', call} end
    return duplicate(item, call)
  end
  local because = item.takes and barred(item.takes)
  if because then return {'barred', because} end
  -- All that have not ended count, also those in back-off: a dead vendor's lane must fill up.
  local held = tonumber(redis.call('HGET', shard .. ':held', item.lane) or '0')
  if held >= item.limit then return {'full', held} end
  if queued + #item.body > most_bytes then return {'heavy', queued} end
  -- What came over the bus was read before the bus was paused: it is few, and taken.
  if flooded and not item.entry then return {'flooded', 0} end
  local tag = tag_of(item)
  local late = too_late(item, tag)
  if late then return {'late', late} end
  return admit(item, tag)
end

for name, plan in pairs(offered) do redis.call('HSETNX', shard .. ':plans', name, cmsgpack.pack(plan)) end
for index, item in ipairs(items) do answers[index] = decide(item) end
if accepted > 0 then
  redis.call('HINCRBY', shard .. ':stats', 'accepted', accepted)
  redis.call('HSET', shard .. ':bytes', TENANT, queued)
end
if woken > 0 then redis.call('PUBLISH', shard .. ':wake', woken) end
if duplicates > 0 then redis.call('HINCRBY', shard .. ':stats', 'duplicates', duplicates) end
if accepted + duplicates > 0 then redis.call('HINCRBY', shard .. ':stats', 'received', accepted + duplicates) end
return answers
