-- breaker_move: change how a breaker stands, if it still stands as its judge believes; close or open the gates of its origin.
-- Idempotent: the second time it stands otherwise already. State, gates and event are one step.
-- KEYS[1] shard     tag     prefix of standings, breaker:*, gates (hashes), moves, parked:* (zsets)
-- KEYS[2] events    stream  lifecycle events
-- ARGV[1] key       string  connector|origin
-- ARGV[2] expected  int     the generation it is moved from
-- ARGV[3] revision  int     the revision it is moved from; -1 for any of that generation
-- ARGV[4] item      msgpack {state, generation, open_us, opens, ramp, mode, mode_us, owner, reason, detail, gates}; open_us 0 is until
--                   somebody acts, mode_us the same; ramp is how many calls at once a slow start lets through, 0 for all
-- ARGV[5] event     string  the event that tells of it; empty when none does
-- RETURN  {"moved" or "stale", now_us, packed standing}
local shard, events = KEYS[1], KEYS[2]
local key, expected, revision, item, event = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES gates
local REASON = 'breaker_open'
local packed = redis.call('HGET', shard .. ':standings', key)
local before = packed and cmsgpack.unpack(packed) or {generation = 0, revision = 0, since_us = now, gates = {}}

local function after(us) return us > 0 and now + us or 0 end

local function steer(until_us)
  local keep = {}
  for _, gate in ipairs(item.gates) do
    keep[gate] = item.state ~= 'closed' or item.ramp > 0
    if item.state ~= 'closed' then
      close_gate(gate, REASON, until_us, item.detail, 1)
    elseif item.ramp > 0 then
      close_gate(gate, REASON, now, item.detail, item.ramp)
    end
  end
  for _, gates in ipairs({item.gates, before.gates}) do
    for _, gate in ipairs(gates) do
      if not keep[gate] then open_gate(gate, REASON) end
    end
  end
end

if before.generation ~= expected or (revision >= 0 and before.revision ~= revision) then return {'stale', now, packed or ''} end
-- Lua has no rollback: what could fail is written first.
if event ~= '' then redis.call('XADD', events, '*', 'data', event) end
local same = before.generation == item.generation
local standing = {
  state = item.state, generation = item.generation, revision = before.revision + 1, since_us = same and before.since_us or now,
  until_us = item.state == 'closed' and now or after(item.open_us), opens = item.opens, ramp = item.ramp, ramp_since_us = now,
  mode = item.mode, mode_until_us = after(item.mode_us), owner = item.owner, reason = item.reason, gates = item.gates,
}
if same then redis.call('HSET', shard .. ':breaker:' .. key, 'successes', 0) else redis.call('DEL', shard .. ':breaker:' .. key) end
packed = cmsgpack.pack(standing)
redis.call('HSET', shard .. ':standings', key, packed)
steer(standing.until_us)
redis.call('PUBLISH', shard .. ':breakers', cmsgpack.pack({key = key, now_us = now, standing = standing}))
return {'moved', now, packed}
