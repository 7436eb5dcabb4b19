-- note: write down which records of a partition a reader takes in hand, and forget the marks of what is committed. Idempotent.
-- After this state was lost in part or whole, what a group has committed says nothing about what is stored here: nothing is noted of any
-- partition before each of them is read again (`loss`).
-- KEYS[1] shard  tag     prefix of offsets, noted, reading, reread (hashes), marks:* (zsets), epoch, forgot, branch (strings)
-- ARGV[1] items  msgpack list of {partition, first?, last?, committed?, anew?, loss?, below?, done?}; anew throws away what is known of the
--                        partition; loss is the one for which all below `below` was read before, and done says that it will be read again
-- ARGV[2] epoch  string  the state the reader believes in; empty for any
-- RETURN  "noted" | "forgot", and the reader must ask for this state's name | "behind", and partitions must be read again
local shard, items, epoch = KEYS[1], cmsgpack.unpack(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
-- USES standing
local loss = redis.call('GET', shard .. ':forgot') or ''

local function behind(item)
  if item.loss then return item.loss ~= loss end
  if loss == '' then return false end
  local read = redis.call('HGET', shard .. ':reread', string.format('%.0f', item.partition)) or ''
  return string.match(read, '^%d+|1|(.*)$') ~= loss
end

local function note(item)
  local partition = string.format('%.0f', item.partition)
  local marks = shard .. ':marks:' .. partition
  if item.loss then
    redis.call('HSET', shard .. ':reread', partition, string.format('%.0f|%d|%s', item.below, item.done and 1 or 0, loss))
    return
  end
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

if epoch ~= '' and redis.call('GET', shard .. ':epoch') ~= epoch or took_over() then return 'forgot' end
for _, item in ipairs(items) do
  if behind(item) then return 'behind' end
end
for _, item in ipairs(items) do note(item) end
return 'noted'
