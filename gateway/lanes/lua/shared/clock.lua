-- clock: how far Redis' clock was set forward in all (string `stepped`: us), as workers prove by clocks that nobody sets. Needs `shard` and `now`.
local STEP_US = 250000

-- Returns the sum, and whether this request finds the clock ahead of what its sender expects. It may only have been long on its way:
-- who sent it can tell by when the answer comes, and says so with the next one.
-- expected: what the clock should show by the sender's own, 0 when it cannot tell; known: the sum when it compared the two;
-- proven: a step that it has proven since.
local function stepped_by(expected, known, proven)
  local sum = tonumber(redis.call('GET', shard .. ':stepped') or '0')
  if proven > 0 and known == sum then
    sum = sum + proven
    redis.call('SET', shard .. ':stepped', string.format('%.0f', sum))
    return sum, false
  end
  return sum, expected > 0 and now - expected - (sum - known) >= STEP_US
end
