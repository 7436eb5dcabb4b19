-- An alert is one record of the hash `alerts`, under the key of its pattern; what is told of it goes out in the same step.
local records = shard .. ':alerts'

local function publish(stream, kind, data, at)
  redis.call('XADD', stream, '*', 'data', cjson.encode({
    specversion = '1.0', type = kind, source = 'sluice', id = data.alert .. (kind == 'alert.opened' and '.opened' or '.resolved'),
    time = at, subject = data.kind, datacontenttype = 'application/json', data = data,
  }))
end

local function told(record)
  return {
    alert = record.alert, kind = record.kind, key = record.subject, opened = record.opened, count = record.count,
    sentence = record.sentence, action = record.action, sample = cjson.decode(record.sample),
  }
end

local function resolve(record, at, by, reason)
  local data = told(record)
  data.resolved, data.by, data.reason = at, by, reason
  record.state, record.quiet_us, record.resolved_us = 'resolved', 0, now
  record.by, record.reason, record.resolved = by, reason, at
  publish(alerts, 'alert.resolved', data, at)
end
