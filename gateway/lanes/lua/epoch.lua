-- epoch: hold the name of this state against the one that is remembered beside it; a state that was lost is given a name and a time.
-- A copy that took over is another state: what had not reached it is lost. Also says whether marks need a replica from now on.
-- Idempotent: a loss that was found is not found again.
-- KEYS[1] shard     tag     prefix of epoch, forgot, branch, doubt, covered, replicated (strings)
-- ARGV[1] expected  string  the name that is remembered, empty at a first start
-- ARGV[2] fresh     string  the name for a state that has none
-- ARGV[3] replicas  int     how many must hold a mark; -1: one, once this state has had one
-- RETURN  {"same", name} | {"first", name} | {"lost", name} | {"changed", name} | {"promoted", name}
local shard, expected, fresh, replicas = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
-- USES standing

local function begin(name)
  redis.call('SET', shard .. ':epoch', name)
  redis.call('SET', shard .. ':branch', promoted())
end

-- Where each mark waited for a copy, one that is not here was never given, and nothing was sent.
local function begin_anew()
  begin(fresh)
  redis.call('SET', shard .. ':forgot', now .. '|' .. fresh)
  if redis.call('DEL', shard .. ':replicated') == 1 then
    redis.call('SET', shard .. ':covered', now .. '|' .. fresh)
  else
    redis.call('SET', shard .. ':doubt', now)
  end
end

local function compare()
  local found = redis.call('GET', shard .. ':epoch')
  if not found then
    begin(fresh)
    if expected == '' then return {'first', fresh} end
    redis.call('SET', shard .. ':forgot', now .. '|' .. fresh)
    return {'lost', fresh}
  end
  if took_over() then
    begin_anew()
    return {'promoted', fresh}
  end
  if redis.call('EXISTS', shard .. ':branch') == 0 then redis.call('SET', shard .. ':branch', promoted()) end
  if found == expected or expected == '' then return {'same', found} end
  -- Another name: if it was given after a loss, somebody has found that already; otherwise this is another state altogether.
  local forgot = redis.call('GET', shard .. ':forgot')
  if forgot and string.match(forgot, '|(.*)$') == found then return {'same', found} end
  redis.call('SET', shard .. ':forgot', now .. '|' .. found)
  return {'changed', found}
end

local function note_replicas()
  local wanted = replicas > 0 or (replicas < 0 and string.find(redis.call('INFO', 'replication'), 'state=online', 1, true))
  local noted = redis.call('EXISTS', shard .. ':replicated') == 1
  if wanted and not noted then redis.call('SET', shard .. ':replicated', 1) end
  if replicas == 0 and noted then redis.call('DEL', shard .. ':replicated') end
end

local told = compare()
note_replicas()
return told
