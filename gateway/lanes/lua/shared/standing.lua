-- standing: what this server is among its copies. The including script binds `shard`.
-- branch (string: the history that began when this server took over and that has been dealt with; empty: it never took over).
-- The id of the history that began when this server was promoted; empty for one that never was, or was started again since.
local function promoted()
  local told = redis.call('INFO', 'replication')
  local before = string.match(told, 'master_replid2:(%x+)')
  if not before or string.match(before, '^0+$') then return '' end
  return string.match(told, 'master_replid:(%x+)') or ''
end

-- Whether this server is a copy that took over and nobody has dealt with what it may have missed.
local function took_over()
  local history = promoted()
  if history == '' then return nil end
  local known = redis.call('GET', shard .. ':branch')
  return known and known ~= history and history or nil
end
