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

-- USES groups

if redis.call('EXISTS', stream) == 0 then return 0 end
local floor, found = wanted_from(stream, own, entry_of(now - math.floor(keep / 1000)), entry_of(now - math.floor(wait / 1000)))
-- Without its group a stream holds nothing but unread events: it was flushed, or nobody has started yet.
return (found or own == '') and redis.call('XTRIM', stream, 'MINID', floor) or 0
