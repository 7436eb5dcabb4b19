-- canary: heed what a read says of a vendor whose answers broke a contract; when every read that broke too is clean again, the gate opens.
-- A read that never broke since the gate was closed says nothing: it may not show what broke.
-- KEYS[1] shard    tag     prefix of gates (hash), moves, parked:* (zsets)
-- ARGV[1] gate     string  the gate of the operation that is held
-- ARGV[2] reason   string  what it is held for
-- ARGV[3] read     string  the tool that was read with
-- ARGV[4] verdict  string  clean or broken
-- ARGV[5] enough   int     how many clean answers in a row are enough
-- RETURN  "unheld" | "noted" | "opened"
local shard, gate, reason, read, verdict, enough = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES gates
local closings = closings_of(gate)
local closing = closings[reason]
if not closing then return 'unheld' end
local canaries = closing.canaries or {}
if verdict == 'broken' then
  canaries[read] = 0
elseif canaries[read] then
  canaries[read] = canaries[read] + 1
else
  return 'noted'
end
local well = true
for _, clean in pairs(canaries) do well = well and clean >= enough end
if well then
  open_gate(gate, reason)
  return 'opened'
end
closing.canaries = canaries
keep_closings(gate, closings)
return 'noted'
