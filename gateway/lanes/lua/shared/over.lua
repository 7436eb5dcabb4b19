-- Letters that are over: what became of each is told as long as its entry lies in its topic. Needs `shard`.
-- `told` has status, at_us, by?, reason?, replay?, and the effect where somebody decided it.
local function end_letter(id, state, told)
  redis.call('HDEL', shard .. ':letters', id)
  -- Without an entry nobody could ever find out what is to be forgotten.
  if not state.entry or state.entry == '' then return end
  told.entry, told.effect = state.entry, told.effect or state.effect
  redis.call('HSET', shard .. ':over', id, cmsgpack.pack(told))
  redis.call('ZADD', shard .. ':aging', told.at_us, id)
end

-- The keys of its chain are forgotten in their time. With `answered`, the call whose answer counts from now on,
-- whoever publishes one of them again gets that answer.
local function close_letter(id, state, told, ttls, answered)
  end_letter(id, state, told)
  for _, kept in ipairs(state.kept) do
    local scope = shard .. ':idem:' .. kept[1]
    local claim = redis.call('GET', scope)
    if claim and answered then redis.call('SET', scope, answered .. string.match(claim, '|.*$')) end
    redis.call('EXPIRE', scope, ttls.scope_ttl_s)
    redis.call('EXPIRE', shard .. ':answer:' .. kept[2], ttls.answer_ttl_s)
  end
end
