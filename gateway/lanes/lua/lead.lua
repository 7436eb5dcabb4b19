-- lead: let one process at a time run the replays. Idempotent: the leader's own question renews its lease.
-- KEYS[1] shard     tag     prefix of leader, fence (strings)
-- ARGV[1] worker    string  who asks
-- ARGV[2] lease_ms  int     how long without a question until another may
-- RETURN  the leader's fence, 0 while another leads
local shard, worker, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local name, fence = string.match(redis.call('GET', shard .. ':leader') or '', '^(.*)|(%d+)$')
if name and name ~= worker then return 0 end
fence = fence or redis.call('INCR', shard .. ':fence')
redis.call('SET', shard .. ':leader', worker .. '|' .. string.format('%.0f', fence), 'PX', lease)
return tonumber(fence)
