-- How far the groups of a stream are done with it.
local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function before(a, b)
  local a_ms, a_sequence = parts(a)
  local b_ms, b_sequence = parts(b)
  return a_ms < b_ms or (a_ms == b_ms and a_sequence < b_sequence)
end

-- The entry of a time, and those before it.
local function entry_of(ms) return string.format('%.0f-0', ms) end

-- The first entry that a group may still want, at most `floor`; and whether our own group is there. A foreign group does not hold
-- back what is older than `patience`.
local function wanted_from(stream, own, floor, patience)
  local found = false
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local facts = {}
    for index = 1, #group, 2 do facts[group[index]] = group[index + 1] end
    local ms, sequence = parts(facts['last-delivered-id'])
    local limit = string.format('%.0f-%.0f', ms, sequence + 1)
    if facts['pending'] > 0 then limit = redis.call('XPENDING', stream, facts['name'])[2] end
    if facts['name'] == own then
      found = true
    elseif before(limit, patience) then
      limit = patience
    end
    if before(limit, floor) then floor = limit end
  end
  return floor, found
end
