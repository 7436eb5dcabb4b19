-- A credential is one hash, `token:connector|connection`; its tokens are sealed before they get here.
-- What changes is told on the events topic, and what needs a person as one alert; neither holds a secret.
local token_key = shard .. ':token:' .. name
local SHUT = {needs_consent = true, revoked = true, config_error = true}
local told = 0
-- Each change of state made here: {from, to, version, detail}, for whoever logs it.
local moves = {}

local function number(field) return tonumber(redis.call('HGET', token_key, field) or '0') end

-- A fence is never given twice, also after Redis has forgotten: it is a time, or one more than the last.
local function next_fence() redis.call('HSET', token_key, 'fence', math.max(number('fence') + 1, now)) end

local function state_of() return redis.call('HGET', token_key, 'state') or 'active' end

local function publish(stream, kind, data)
  told = told + 1
  data.connector, data.connection = string.match(name, '^([^|]*)|(.*)$')
  redis.call('XADD', stream, '*', 'data', cjson.encode({
    specversion = '1.0', type = kind, source = 'sluice', id = note.id .. '.' .. told, time = note.time, subject = name,
    datacontenttype = 'application/json', data = data,
  }))
end

-- `before` is the state that the alert is held against: asking again in vain is no news.
local function become(to, detail, before)
  local from = state_of()
  redis.call('HSET', token_key, 'state', to, 'detail', detail, 'changed_us', now)
  if from == to then return end
  moves[#moves + 1] = {from, to, number('version'), detail}
  publish(events, 'token.changed', {from = from, to = to, version = number('version'), detail = detail})
  if (to == 'needs_consent' or to == 'config_error') and (before or from) ~= to then
    local action = to == 'needs_consent' and 'sluice connections authorize ' or 'sluice connections check '
    local connector, connection = string.match(name, '^([^|]*)|(.*)$')
    publish(alerts, to == 'needs_consent' and 'token.needs_consent' or 'token.config_error', {detail = detail, action = action .. connector .. '/' .. connection})
  end
end

local function whole() return redis.call('HGETALL', token_key) end
