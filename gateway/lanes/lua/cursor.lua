-- cursor: move on in a topic, if the place is still where the reader found it. Idempotent: the second time it is not.
-- KEYS[1] shard   tag     prefix of cursors (hash)
-- ARGV[1] name    string  who reads
-- ARGV[2] before  string  the place as it was found; empty for none
-- ARGV[3] after   string  the last entry that is done with
-- RETURN  "moved" or "stale"
local shard, name, before, after = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local cursors = shard .. ':cursors'
if (redis.call('HGET', cursors, name) or '') ~= before then return 'stale' end
redis.call('HSET', cursors, name, after)
return 'moved'
