-- epoch: hold the name of this state against the one that is remembered beside it; a state that was lost is given a name and a time.
-- Idempotent: a loss that was found is not found again.
-- KEYS[1] shard     tag     prefix of epoch, forgot (strings)
-- ARGV[1] expected  string  the name that is remembered, empty at a first start
-- ARGV[2] fresh     string  the name for a state that has none
-- RETURN  {"same", name} | {"first", name} | {"lost", name} | {"changed", name}
local shard, expected, fresh = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local found = redis.call('GET', shard .. ':epoch')
if found and (found == expected or expected == '') then return {'same', found} end
if not found then
  redis.call('SET', shard .. ':epoch', fresh)
  if expected == '' then return {'first', fresh} end
  redis.call('SET', shard .. ':forgot', now .. '|' .. fresh)
  return {'lost', fresh}
end
-- Another name: if it was given after a loss, somebody has found that already; otherwise this is another state altogether.
local forgot = redis.call('GET', shard .. ':forgot')
if forgot and string.match(forgot, '|(.*)$') == found then return {'same', found} end
redis.call('SET', shard .. ':forgot', now .. '|' .. found)
return {'changed', found}
