-- clock: how far Redis' clock was set forward in all (string `stepped`: us), as callers tell by clocks that nobody sets. Needs `shard` and `now`.
local STEP_US = 250000

-- expected: what Redis' clock should show by the caller's own, 0 when it cannot tell; known: what it knew to be stepped when it
-- compared the two. A request that was long on its way looks like a step: limits then wait for as much longer, and nothing else.
local function stepped_by(expected, known)
  local before = tonumber(redis.call('GET', shard .. ':stepped') or '0')
  local ahead = now - expected - math.max(0, before - known)
  if expected == 0 or ahead < STEP_US then return before end
  redis.call('SET', shard .. ':stepped', string.format('%.0f', before + ahead))
  return before + ahead
end
