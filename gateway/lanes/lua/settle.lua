-- settle: end or defer claims: check the fence, free the lease, change the state, publish result, letter and events.
-- Idempotent: a claim that is no longer the caller's ("stale") or a call that ended ("gone") changes nothing.
-- The slots of its limits go back too, and what the vendor's answer taught about them is kept; `next_due_us` is when there may be
-- something to claim because of it.
-- KEYS[1] shard    tag     prefix of calls, runs, stats, held, bytes, parks, plans, gates, virtual, spent:*, answer:*, letters, over,
--                  progress:* (hashes), aging, lane:*, ready, ready:*, flows:*, parked:*, moves, slots:*, deadlines, delayed, leases (zsets),
--                  forgot, stepped, idem:* (strings)
-- KEYS[2] results  stream  result events
-- KEYS[3] events   stream  lifecycle events
-- KEYS[4] letters  stream  dead letters
-- ARGV[1] items    msgpack list of {id, fence, state, seq, events, attempts_json, answer_ttl_s, scope_ttl_s, result?, letter?, opens?, moves?,
--                  slots, costs?, lessons?, due_us?, attempts?, tries?, crashes?, effect?, first_us?, way?, flow?, weight?}; a scope_ttl_s of 0
--                  keeps scope and answer (its letter is open), due_us marks a deferral, slots says what became of the request: see `release`;
--                  flow and weight are those of a call that was never tried; opens is
--                  how its letter stands, moves what becomes of the letter that it replays; way says in which lane a deferred call goes on,
--                  and what it takes there: the way to a read that tells whether it ran, and back
-- ARGV[2] expected int     what Redis' clock should show by the caller's own, 0 when it cannot tell: see `clock`
-- ARGV[3] known    int     how far it was known to be set forward when the two were compared
-- RETURN  {now_us, next_due_us or -1, list of "settled" | "stale" | "gone", stepped_us}
local shard, results, events, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local items, answers, woken = cmsgpack.unpack(ARGV[1]), {}, 0
local expected, known = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, pacing, gates, release, letters, over, topics, clock
local TENANT = 'default'

local unfit = misfit({results, events, letters})
if unfit then return unfit end

-- Nothing of a lane is live any more: its bound, its virtual time and its flows begin anew.
local function forget(lane)
  redis.call('HDEL', shard .. ':held', lane)
  redis.call('HDEL', shard .. ':virtual', lane)
  redis.call('DEL', shard .. ':flows:' .. lane)
end

-- A call that ended without having been tried gives its flow the turn back; a flow that is not ahead of its lane is not kept.
local function withdraw(lane, flow, weight)
  local flows = shard .. ':flows:' .. lane
  local tag = tonumber(redis.call('ZSCORE', flows, flow) or '0') - math.floor(UNIT / weight)
  if tag <= tonumber(redis.call('HGET', shard .. ':virtual', lane) or '0') then
    redis.call('ZREM', flows, flow)
  else
    redis.call('ZADD', flows, tag, flow)
  end
end

-- A letter whose replay ended well is over; one whose replay left a letter of its own is over too, and that one remembers its keys.
local function move_letter(item, moves)
  local state = letter_of(moves.letter)
  if not state or state.status ~= 'replaying' then return end
  local told = {status = moves.status, by = state.by, reason = moves.reason, replay = moves.replay, at_us = now}
  if moves.status == 'replayed_ok' then
    close_letter(moves.letter, state, told, item, item.id)
  elseif item.opens then
    for _, kept in ipairs(state.kept) do table.insert(item.opens.state.kept, kept) end
    end_letter(moves.letter, state, told)
  else
    state.status, state.replay = 'open', nil
    keep_letter(moves.letter, state)
  end
  local far = {status = moves.status, call = item.id, state = moves.state, fingerprint = moves.fingerprint, letter = item.opens and item.opens.id}
  redis.call('HSET', shard .. ':progress:' .. moves.replay, moves.letter, cmsgpack.pack(far))
  redis.call('XADD', events, '*', 'data', moves.event)
end

local function finish(item, run)
  local scope, answer = shard .. ':idem:' .. run.scope, shard .. ':answer:' .. item.id
  redis.call('HINCRBY', shard .. ':bytes', TENANT, -redis.call('HSTRLEN', shard .. ':calls', item.id))
  redis.call('HDEL', shard .. ':calls', item.id)
  redis.call('HDEL', shard .. ':runs', item.id)
  redis.call('ZREM', shard .. ':deadlines', item.id)
  redis.call('HINCRBY', shard .. ':stats', item.state, 1)
  -- What still waited for a person had taken no turn.
  local turned = not run.review or run.review.decision == 'approved'
  if item.flow and turned then withdraw(run.lane, item.flow, item.weight) end
  if redis.call('HINCRBY', shard .. ':held', run.lane, -1) <= 0 then forget(run.lane) end
  redis.call('XADD', results, '*', 'data', item.result)
  if item.moves then move_letter(item, item.moves) end
  if item.letter then
    local entry = redis.call('XADD', letters, '*', 'data', item.letter)
    if item.opens then
      item.opens.state.entry = entry
      keep_letter(item.opens.id, item.opens.state)
    end
  end
  redis.call('HSET', answer, 'event', item.result, 'attempts', item.attempts_json)
  if item.scope_ttl_s > 0 then
    redis.call('EXPIRE', scope, item.scope_ttl_s)
    redis.call('EXPIRE', answer, item.answer_ttl_s)
  end
  redis.call('PUBLISH', shard .. ':settled', item.id)
end

-- In the other lane it counts and stands like one of its own; its tag there is that of the call that is served next.
local function redirect(run, way)
  if redis.call('HINCRBY', shard .. ':held', run.lane, -1) <= 0 then forget(run.lane) end
  redis.call('HINCRBY', shard .. ':held', way.lane, 1)
  run.lane, run.timeout_us, run.deadline_us, run.costs, run.doubt = way.lane, way.timeout_us, way.deadline_us, way.costs, way.doubt
  if run.doubt and run.doubt.since_us == 0 then run.doubt.since_us = now end
  run.tag = tonumber(redis.call('HGET', shard .. ':virtual', run.lane) or '0')
end

local function defer(item, run)
  if item.way then redirect(run, item.way) end
  run.state, run.seq, run.history, run.since = item.state, item.seq, item.attempts_json, now
  run.attempts, run.tries, run.crashes = item.attempts, item.tries, item.crashes
  run.effect, run.first_us = item.effect, item.first_us
  run.permit, run.permits = nil, nil
  redis.call('ZADD', shard .. ':deadlines', run.deadline_us, item.id)
  redis.call('HSET', shard .. ':runs', item.id, cmsgpack.pack(run))
  if item.due_us > now then
    redis.call('ZADD', shard .. ':delayed', item.due_us, item.id)
  else
    redis.call('ZADD', shard .. ':lane:' .. run.lane, run.tag, item.id)
    if rouse(run.lane) or overtakes(run.lane, item.id) then woken = woken + 1 end
  end
end

local function settle(item)
  local packed = redis.call('HGET', shard .. ':runs', item.id)
  if not packed then return 'gone' end
  local run = cmsgpack.unpack(packed)
  if run.fence ~= item.fence or run.state ~= 'processing' then return 'stale' end
  redis.call('ZREM', shard .. ':leases', item.id)
  relinquish(run, item.slots, item.costs, item.lessons)
  for _, event in ipairs(item.events) do redis.call('XADD', events, '*', 'data', event) end
  if item.due_us then defer(item, run) else finish(item, run) end
  return 'settled'
end

stepped, doubtful = stepped_by(expected, known, 0)
-- Who cannot tell leaves what has run out to those who can.
doubtful = doubtful or expected == 0
for index, item in ipairs(items) do answers[index] = settle(item) end
keep()
if woken > 0 then redis.call('PUBLISH', shard .. ':wake', woken) end
return {now, next_due(), answers, stepped}
