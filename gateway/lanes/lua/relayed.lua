-- relayed: move the outbox's place on a stream, once the bus has given its word for what lies before. Idempotent: a second time it is not there.
-- KEYS[1] shard   tag     prefix of turn:relay (string)
-- KEYS[2] stream  stream  the topic
-- ARGV[1] group   string  the outbox's group
-- ARGV[2] holder  string  who sent it
-- ARGV[3] before  string  the place as it was found
-- ARGV[4] after   string  the last entry that the bus has
-- ARGV[5] count   int     how many entries that are, for the group's own sum
-- RETURN  "moved" or "lost": another process has the turn, or has moved the place
local shard, stream = KEYS[1], KEYS[2]
local group, holder, before, after, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('GET', shard .. ':turn:relay') ~= holder or redis.call('EXISTS', stream) == 0 then return 'lost' end
for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local facts = {}
  for index = 1, #reply, 2 do facts[reply[index]] = reply[index + 1] end
  if facts['name'] == group then
    if facts['last-delivered-id'] ~= before then return 'lost' end
    local read = facts['entries-read'] and tonumber(facts['entries-read'])
    if read then
      redis.call('XGROUP', 'SETID', stream, group, after, 'ENTRIESREAD', string.format('%.0f', read + count))
    else
      redis.call('XGROUP', 'SETID', stream, group, after)
    end
    return 'moved'
  end
end
return 'lost'
