-- note: write down which records of a partition a reader takes in hand, and forget the marks of what is committed. Idempotent.
-- KEYS[1] shard  tag     prefix of offsets, noted, reading (hashes), marks:* (zsets)
-- ARGV[1] items  msgpack list of {partition, first?, last?, committed?, anew?}; anew throws away what is known of the partition
-- RETURN  the number of items
local shard, items = KEYS[1], cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

for _, item in ipairs(items) do
  local partition = string.format('%.0f', item.partition)
  local marks = shard .. ':marks:' .. partition
  if item.anew then
    redis.call('DEL', marks)
    redis.call('HDEL', shard .. ':offsets', partition)
  end
  if item.committed and item.committed > tonumber(redis.call('HGET', shard .. ':offsets', partition) or '0') then
    redis.call('HSET', shard .. ':offsets', partition, string.format('%.0f', item.committed))
    redis.call('ZREMRANGEBYSCORE', marks, '-inf', string.format('(%.0f', item.committed))
  end
  if item.last then redis.call('HSET', shard .. ':reading', partition, string.format('%.0f-%.0f', item.first, item.last)) end
  redis.call('HSET', shard .. ':noted', partition, now_ms)
end
return #items
