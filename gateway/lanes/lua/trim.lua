-- trim: forget stream entries that every group has finished with, never past the oldest pending or undelivered one.
-- KEYS[1] stream  stream  the topic
-- ARGV[1] own     string  our consumer group, or "" where we have none; while it is missing nothing is trimmed
-- ARGV[2] keep_us int     age that is kept in any case; 0 trims to the groups' own minimum
-- ARGV[3] wait_us int     how long a foreign group may hold entries back
-- RETURN  number of entries removed
local stream, own = KEYS[1], ARGV[1]
local keep, wait = tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function before(a, b)
  local a_ms, a_sequence = parts(a)
  local b_ms, b_sequence = parts(b)
  return a_ms < b_ms or (a_ms == b_ms and a_sequence < b_sequence)
end

if redis.call('EXISTS', stream) == 0 then return 0 end
local floor, found = string.format('%.0f-0', now - math.floor(keep / 1000)), own == ''
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local facts = {}
  for index = 1, #group, 2 do facts[group[index]] = group[index + 1] end
  local oldest = facts['last-delivered-id']
  local ms, sequence = parts(oldest)
  local limit = string.format('%.0f-%.0f', ms, sequence + 1)
  if facts['pending'] > 0 then limit = redis.call('XPENDING', stream, facts['name'])[2] end
  if facts['name'] == own then
    found = true
  else
    local patience = string.format('%.0f-0', now - math.floor(wait / 1000))
    if before(limit, patience) then limit = patience end
  end
  if before(limit, floor) then floor = limit end
end
-- Without its group a stream holds nothing but unread events: it was flushed, or nobody has started yet.
return found and redis.call('XTRIM', stream, 'MINID', floor) or 0
