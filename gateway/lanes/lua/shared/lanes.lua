-- lanes: which lanes have a turn and what the others wait for. The including script binds `shard` and `now`.
-- Two levels: ready (zset: connectors in turn) and ready:* (zset: the lanes of one in turn). A lane that is denied is parked under
-- the key that denies it (parked:*, zset; parks, hash: lane -> key) and looked at again when that key moves (moves, zset: key -> us).
-- A call's share of a lane is UNIT / weight of its virtual time.
local UNIT = 4096
local turns = 0

local function turn()
  turns = turns + 1
  return now + turns
end

local function connector_of(lane) return string.match(lane, '^[^|]*') end

-- Gives a lane a turn unless it is parked; true when it had none before.
local function rouse(lane)
  if redis.call('HEXISTS', shard .. ':parks', lane) == 1 then return false end
  local connector = connector_of(lane)
  if redis.call('ZADD', shard .. ':ready:' .. connector, 'NX', turn(), lane) == 0 then return false end
  redis.call('ZADD', shard .. ':ready', 'NX', now, connector)
  return true
end

local function unready(lane)
  local connector = connector_of(lane)
  local mine = shard .. ':ready:' .. connector
  redis.call('ZREM', mine, lane)
  if redis.call('EXISTS', mine) == 0 then redis.call('ZREM', shard .. ':ready', connector) end
end

-- Looks at a key again at `at`, or earlier if that was planned.
local function move(key, at)
  local planned = redis.call('ZSCORE', shard .. ':moves', key)
  if not planned or at < tonumber(planned) then redis.call('ZADD', shard .. ':moves', at, key) end
end

-- The next call of a lane is another one, or gone: if the lane waits, what it waits for is looked at again. True when it does.
local function stir(lane)
  local key = redis.call('HGET', shard .. ':parks', lane)
  if key then move(key, now) end
  return key and true or false
end

local function is_next(lane, id) return redis.call('ZRANGE', shard .. ':lane:' .. lane, 0, 0)[1] == id end

-- `at` nil: nobody knows when; whoever opens the key moves it. A lane that got nothing in its turn keeps its `place`.
local function park(lane, key, at, place)
  unready(lane)
  redis.call('ZADD', shard .. ':parked:' .. key, place or turn(), lane)
  redis.call('HSET', shard .. ':parks', lane, key)
  if at then move(key, at) end
end

local function waited_for(key) return redis.call('EXISTS', shard .. ':parked:' .. key) == 1 end

-- Whether a lane waits for the key that came before one with this place; a lane without one came last.
local function waited_before(key, place)
  local first = redis.call('ZRANGE', shard .. ':parked:' .. key, 0, 0, 'WITHSCORES')[2]
  return first and (not place or tonumber(first) < tonumber(place))
end

-- When there may be something to claim: the next due call or the next key that moves; -1 when only a signal will tell.
local function next_due()
  local delayed = redis.call('ZRANGE', shard .. ':delayed', 0, 0, 'WITHSCORES')[2]
  local moving = redis.call('ZRANGE', shard .. ':moves', 0, 0, 'WITHSCORES')[2]
  if delayed and moving then return math.min(tonumber(delayed), tonumber(moving)) end
  return tonumber(delayed or moving or -1)
end
