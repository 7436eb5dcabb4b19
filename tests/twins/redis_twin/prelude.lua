-- What Redis gives its scripts beside Lua itself: `redis`, `cmsgpack`, `cjson`. `call` and the two of JSON come from Python.
local call, encode_json, decode_json = ...
local byte, char, floor, concat, sub = string.byte, string.char, math.floor, table.concat, string.sub

redis = {
  call = call,
  error_reply = function(text) return {err = text} end,
  status_reply = function(text) return {ok = text} end,
}
cjson = {encode = encode_json, decode = decode_json}

local put

local function big(n, bytes)
  local out = {}
  for at = bytes, 1, -1 do
    out[at] = char(n % 256)
    n = floor(n / 256)
  end
  return concat(out)
end

local function put_double(out, n)
  local sign = 0
  if n < 0 or (n == 0 and 1 / n < 0) then sign, n = 128, -n end
  local mantissa, exponent = math.frexp(n)
  if n == math.huge then mantissa, exponent = 0, 2047
  elseif n == 0 then mantissa, exponent = 0, 0
  else mantissa, exponent = (mantissa * 2 - 1) * 2 ^ 52, exponent + 1022 end
  out[#out + 1] = '\203' .. char(sign + floor(exponent / 16), (exponent % 16) * 16 + floor(mantissa / 2 ^ 48)) .. big(mantissa % 2 ^ 48, 6)
end

local function put_number(out, n)
  if n ~= floor(n) or n >= 2 ^ 63 or n < -2 ^ 63 then return put_double(out, n) end
  local text
  if n >= 0 then
    if n < 128 then text = char(n)
    elseif n < 256 then text = '\204' .. char(n)
    elseif n < 65536 then text = '\205' .. big(n, 2)
    elseif n < 4294967296 then text = '\206' .. big(n, 4)
    else text = '\207' .. big(n, 8) end
  elseif n >= -32 then text = char(256 + n)
  elseif n >= -128 then text = '\208' .. char(256 + n)
  elseif n >= -32768 then text = '\209' .. big(65536 + n, 2)
  elseif n >= -2147483648 then text = '\210' .. big(4294967296 + n, 4)
  else text = '\211' .. big(2 ^ 32 + floor(n / 2 ^ 32), 4) .. big(n % 2 ^ 32, 4) end
  out[#out + 1] = text
end

local function put_string(out, text)
  local length = #text
  if length < 32 then out[#out + 1] = char(160 + length)
  elseif length < 256 then out[#out + 1] = '\217' .. char(length)
  elseif length < 65536 then out[#out + 1] = '\218' .. big(length, 2)
  else out[#out + 1] = '\219' .. big(length, 4) end
  out[#out + 1] = text
end

local function put_table(out, value)
  local count, most, list = 0, 0, true
  for key in pairs(value) do
    count = count + 1
    if type(key) ~= 'number' or key < 1 or key ~= floor(key) then list = false elseif key > most then most = key end
  end
  if list and most == count then
    if count < 16 then out[#out + 1] = char(144 + count)
    elseif count < 65536 then out[#out + 1] = '\220' .. big(count, 2)
    else out[#out + 1] = '\221' .. big(count, 4) end
    for at = 1, count do put(out, value[at]) end
    return
  end
  if count < 16 then out[#out + 1] = char(128 + count)
  elseif count < 65536 then out[#out + 1] = '\222' .. big(count, 2)
  else out[#out + 1] = '\223' .. big(count, 4) end
  for key, item in pairs(value) do
    put(out, key)
    put(out, item)
  end
end

put = function(out, value)
  local kind = type(value)
  if kind == 'string' then put_string(out, value)
  elseif kind == 'number' then put_number(out, value)
  elseif kind == 'table' then put_table(out, value)
  elseif kind == 'boolean' then out[#out + 1] = value and '\195' or '\194'
  else out[#out + 1] = '\192' end
end

local read

local function unsigned(text, at, bytes)
  local n = 0
  for index = at, at + bytes - 1 do n = n * 256 + byte(text, index) end
  return n
end

local function signed(text, at, bytes)
  local n = unsigned(text, at, bytes)
  return n >= 2 ^ (8 * bytes - 1) and n - 2 ^ (8 * bytes) or n
end

local function double(text, at)
  local first, second = byte(text, at, at + 1)
  local exponent, mantissa = (first % 128) * 16 + floor(second / 16), (second % 16) * 2 ^ 48 + unsigned(text, at + 2, 6)
  local n
  if exponent == 2047 then n = mantissa == 0 and math.huge or 0 / 0
  elseif exponent == 0 then n = math.ldexp(mantissa / 2 ^ 52, -1022)
  else n = math.ldexp(1 + mantissa / 2 ^ 52, exponent - 1023) end
  return first >= 128 and -n or n
end

local function list_of(text, at, count)
  local out = {}
  for index = 1, count do out[index], at = read(text, at) end
  return out, at
end

local function map_of(text, at, count)
  local out, key, value = {}, nil, nil
  for _ = 1, count do
    key, at = read(text, at)
    value, at = read(text, at)
    out[key] = value
  end
  return out, at
end

local function string_of(text, at, length) return sub(text, at, at + length - 1), at + length end

local LARGE = {
  [192] = function(_, at) return nil, at end,
  [194] = function(_, at) return false, at end,
  [195] = function(_, at) return true, at end,
  [196] = function(text, at) return string_of(text, at + 1, byte(text, at)) end,
  [197] = function(text, at) return string_of(text, at + 2, unsigned(text, at, 2)) end,
  [198] = function(text, at) return string_of(text, at + 4, unsigned(text, at, 4)) end,
  [203] = function(text, at) return double(text, at), at + 8 end,
  [204] = function(text, at) return byte(text, at), at + 1 end,
  [205] = function(text, at) return unsigned(text, at, 2), at + 2 end,
  [206] = function(text, at) return unsigned(text, at, 4), at + 4 end,
  [207] = function(text, at) return unsigned(text, at, 8), at + 8 end,
  [208] = function(text, at) return signed(text, at, 1), at + 1 end,
  [209] = function(text, at) return signed(text, at, 2), at + 2 end,
  [210] = function(text, at) return signed(text, at, 4), at + 4 end,
  [211] = function(text, at) return signed(text, at, 4) * 2 ^ 32 + unsigned(text, at + 4, 4), at + 8 end,
  [217] = function(text, at) return string_of(text, at + 1, byte(text, at)) end,
  [218] = function(text, at) return string_of(text, at + 2, unsigned(text, at, 2)) end,
  [219] = function(text, at) return string_of(text, at + 4, unsigned(text, at, 4)) end,
  [220] = function(text, at) return list_of(text, at + 2, unsigned(text, at, 2)) end,
  [221] = function(text, at) return list_of(text, at + 4, unsigned(text, at, 4)) end,
  [222] = function(text, at) return map_of(text, at + 2, unsigned(text, at, 2)) end,
  [223] = function(text, at) return map_of(text, at + 4, unsigned(text, at, 4)) end,
}

read = function(text, at)
  local kind = byte(text, at)
  if not kind then error('Missing bytes in input.') end
  if kind < 128 then return kind, at + 1 end
  if kind >= 224 then return kind - 256, at + 1 end
  if kind >= 160 and kind < 192 then return string_of(text, at + 1, kind - 160) end
  if kind < 144 then return map_of(text, at + 1, kind - 128) end
  if kind < 160 then return list_of(text, at + 1, kind - 144) end
  local large = LARGE[kind]
  if not large then error('Bad data format in input.') end
  return large(text, at + 1)
end

cmsgpack = {
  pack = function(...)
    local out = {}
    for index = 1, select('#', ...) do put(out, (select(index, ...))) end
    return concat(out)
  end,
  unpack = function(text)
    if type(text) ~= 'string' then error('bad argument #1 to unpack (string expected)') end
    return (read(text, 1))
  end,
}

-- As in Redis, a script makes no globals and reads none that is not there.
KEYS, ARGV = {}, {}
local function run(chunk, keys, argv)
  rawset(_G, 'KEYS', keys)
  rawset(_G, 'ARGV', argv)
  return chunk()
end
setmetatable(_G, {
  __newindex = function(_, name) error('Attempt to modify a readonly table: ' .. tostring(name)) end,
  __index = function(_, name) error('Script attempted to access nonexistent global variable ' .. tostring(name)) end,
})
return run
