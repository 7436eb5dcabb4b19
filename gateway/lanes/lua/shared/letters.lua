-- Letters that are not over: how each stands, and what is remembered because of it. Needs `shard`.
local function letter_of(id)
  local packed = redis.call('HGET', shard .. ':letters', id)
  return packed and cmsgpack.unpack(packed)
end

local function keep_letter(id, state)
  redis.call('HSET', shard .. ':letters', id, cmsgpack.pack(state))
end
