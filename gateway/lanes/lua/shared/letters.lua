-- Letters that are not over: how each stands, and what is remembered because of it. Needs `shard`.
local function letter_of(id)
  local packed = redis.call('HGET', shard .. ':letters', id)
  return packed and cmsgpack.unpack(packed)
end

local function keep_letter(id, state)
  redis.call('HSET', shard .. ':letters', id, cmsgpack.pack(state))
end

-- It is over: the keys of its chain are forgotten in their time. With `answered`, the call whose answer counts from now on,
-- whoever publishes one of them again gets that answer.
local function close_letter(id, state, scope_ttl, answer_ttl, answered)
  redis.call('HDEL', shard .. ':letters', id)
  for _, kept in ipairs(state.kept) do
    local scope = shard .. ':idem:' .. kept[1]
    local claim = redis.call('GET', scope)
    if claim and answered then redis.call('SET', scope, answered .. string.match(claim, '|.*$')) end
    redis.call('EXPIRE', scope, scope_ttl)
    redis.call('EXPIRE', shard .. ':answer:' .. kept[2], answer_ttl)
  end
end
