-- review: write down a decision about a call that waits for a person. Approved, it goes to its lane; otherwise it is taken under a
-- lease, so that the caller ends it: what was decided stays in its run, and whoever takes it over ends it the same way.
-- Idempotent: the first decision counts; a later one is told of it and changes nothing.
-- KEYS[1] shard     tag     prefix of calls, runs, parks, virtual (hashes), reviews, ready, ready:*, lane:*, flows:*, parked:*, moves, delayed,
--                           leases (zsets), fence, doubt (strings)
-- KEYS[2] events    stream  lifecycle events
-- ARGV[1] id        string  the call
-- ARGV[2] hash      string  what the decision is about; empty when the time ran out
-- ARGV[3] decision  string  "approved" | "denied" | "expired"
-- ARGV[4] by        string  who decided
-- ARGV[5] reason    string  his words
-- ARGV[6] event     string  the event that tells of it
-- ARGV[7] lease_us  int     how long the caller may take to end it
-- RETURN  {"approved", now_us} | {"taken", now_us, {id, fence, lease_us, run, body}} | {"decided", run} | {"changed", hash} | {"early", until_us} | {"gone"}
local shard, events, id, hash, decision, by, reason = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local event, lease = ARGV[6], tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES lanes, doubt, taking, topics
local packed = redis.call('HGET', shard .. ':runs', id)
if not packed then return {'gone'} end
local run = cmsgpack.unpack(packed)
local review = run.review
if not review or run.state ~= 'waiting_for_review' then return {'decided', packed} end
if decision == 'expired' then
  if review.until_us > now then return {'early', review.until_us} end
elseif review.hash ~= hash then
  return {'changed', review.hash}
end
local unfit = misfit({events})
if unfit then return unfit end

redis.call('ZREM', shard .. ':reviews', id)
redis.call('XADD', events, '*', 'data', event)
review.decision, review.by, review.reason, review.decided_us = decision, by, reason, now
run.seq = (run.seq or 1) + 1

if decision == 'approved' then
  -- It queues behind what its flow has queued meanwhile: waiting for a person is no turn.
  local flows = shard .. ':flows:' .. run.lane
  local virtual = tonumber(redis.call('HGET', shard .. ':virtual', run.lane) or '0')
  run.tag = math.max(virtual, tonumber(redis.call('ZSCORE', flows, review.flow) or '0'))
  cast_doubt(run)
  run.state, run.since = 'pending', now
  redis.call('HSET', shard .. ':runs', id, cmsgpack.pack(run))
  redis.call('ZADD', shard .. ':lane:' .. run.lane, run.tag, id)
  redis.call('ZADD', flows, run.tag + math.floor(UNIT / review.weight), review.flow)
  if rouse(run.lane) or overtakes(run.lane, id) then redis.call('PUBLISH', shard .. ':wake', 1) end
  return {'approved', now}
end

return {'taken', now, take_under_lease(id, run, lease)}
