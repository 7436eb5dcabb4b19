-- doubt: what a copy that took over cannot know. The including script binds `shard`.
-- doubt (string: when a copy took over to which marks need not have come; a call that has waited since before may have been sent).
local doubt = nil

local function cast_doubt(run)
  if doubt == nil then doubt = tonumber(redis.call('GET', shard .. ':doubt') or '0') end
  if run.since >= doubt or run.effect == 'executed' then return end
  run.doubtful, run.effect = true, 'unknown'
  if (run.first_us or 0) == 0 then run.first_us = run.since end
end
