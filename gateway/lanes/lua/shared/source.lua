-- An entry of the bus counts once. Where the bus is this Redis its group says so; of another bus, which has no group here, the offset is marked,
-- and what lies below the partition's number was marked before. One that was put aside is taken from there.
local function acknowledged(entry)
  if entry == nil then return true end
  if group ~= '' then return redis.call('XACK', source, group, entry) == 1 end
  if redis.call('HDEL', shard .. ':aside', entry) == 1 then return true end
  local partition, offset = string.match(entry, '^(%d+):(%d+)$')
  local below = redis.call('HGET', shard .. ':offsets', partition)
  if below and tonumber(offset) < tonumber(below) then return false end
  return redis.call('ZADD', shard .. ':marks:' .. partition, offset, offset) == 1
end
