-- replay: keep a plan, or move one on: only from a state that the caller names, so that of two who steer it one wins.
-- Idempotent: the same move again finds the plan where it was brought.
-- KEYS[1] shard  tag      prefix of replays (hash)
-- ARGV[1] id     string   the plan
-- ARGV[2] from   msgpack  states it may be in
-- ARGV[3] to     string   the state it gets
-- ARGV[4] by     string   who says so
-- ARGV[5] why    string   his words
-- ARGV[6] forgive  int    failures that came before and no longer count; -1 leaves that as it is
-- RETURN  {"moved", plan} | {"state", plan} | {"gone"}
local shard, id, from, to, by, why, forgive = KEYS[1], ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local packed = redis.call('HGET', shard .. ':replays', id)
if not packed then return {'gone'} end
local plan = cmsgpack.unpack(packed)
for _, state in ipairs(from) do
  if plan.state == state then
    plan.state, plan.said_by, plan.why, plan.changed_us = to, by, why, time[1] * 1000000 + time[2]
    if forgive >= 0 then plan.forgiven = forgive end
    packed = cmsgpack.pack(plan)
    redis.call('HSET', shard .. ':replays', id, packed)
    return {'moved', packed}
  end
end
return {'state', packed}
