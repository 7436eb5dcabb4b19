-- turn: take or keep the turn at what only one process of the fleet shall do at a time. The turn of a worker that gives no sign of life is over.
-- Idempotent: whoever has the turn gets it again, for a whole lease from now.
-- KEYS[1] shard    tag     prefix of turn:*, worker:* (strings)
-- ARGV[1] name     string  what is done
-- ARGV[2] holder   string  the caller
-- ARGV[3] lease_ms int     how long nobody else has the turn
-- RETURN  "yours" or "taken"
local shard, name, holder, lease = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = shard .. ':turn:' .. name
local has = redis.call('GET', key)
if has and has ~= holder and redis.call('EXISTS', shard .. ':worker:' .. has) == 1 then return 'taken' end
redis.call('SET', key, holder, 'PX', lease)
return 'yours'
