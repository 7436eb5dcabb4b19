-- topics: Lua has no rollback, so what would fail in the middle is looked for before the first write.
local function misfit(streams)
  for _, stream in ipairs(streams) do
    local kind = redis.call('TYPE', stream).ok
    if kind ~= 'stream' and kind ~= 'none' then
      return redis.error_reply('MISFIT ' .. stream .. ' holds a ' .. kind .. ', not a stream')
    end
  end
  return nil
end
