-- alert: bring the alerts up to date with what was observed. A pattern that holds for long enough opens one alert, whoever looks and
-- however often; the alert resolves when its pattern has been quiet for long enough, for longer each time it came back soon.
-- What a person resolved stays so until its pattern was quiet once. Idempotent: an observation that is made twice changes nothing.
-- An observer whose turn is over changes nothing: what it saw may be old.
-- KEYS[1] shard   tag     prefix of alerts (hash), opens (zset), turn:* (string)
-- KEYS[2] alerts  stream  the topic
-- ARGV[1] turn    string  the turn that the observer must have
-- ARGV[2] holder  string  the observer
-- ARGV[3] terms   msgpack {most, at, damp_us, keep_us}: how many may open in an hour, the time for people, how soon is soon, how long
--                 a resolved alert can be looked at
-- ARGV[4] items   msgpack list of {key, subject, kind, fires, since_us, for_us, quiet_us, count, total, sentence, action, sample, alert, free}
-- RETURN  list of "opened", "resolved", "capped", "open", "pending", "muted" or "quiet" in the order of the items, or {"late"}
local shard, alerts, turn, holder = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local terms, items = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES alert
local LONGEST = 5
if redis.call('GET', shard .. ':turn:' .. turn) ~= holder then return {'late'} end
local opens = shard .. ':opens'
redis.call('ZREMRANGEBYSCORE', opens, '-inf', now - 3600000000)

local function save(record) redis.call('HSET', records, record.key, cmsgpack.pack(record)) end

-- A pattern that was told of before keeps its last alert until it opens again.
local function start(item, record)
  record = record or {key = item.key, subject = item.subject, kind = item.kind, alert = '', opened_us = 0, opened = '', flaps = 0,
    quiet_us = 0, resolved_us = 0, resolved = '', by = '', reason = ''}
  record.state, record.since_us, record.count = 'pending', item.since_us > 0 and math.min(item.since_us, now) or now, item.count
  return record
end

local function follow(record, item)
  record.sentence, record.action, record.sample, record.last_us = item.sentence, item.action, item.sample, now
end

local function open(record, item)
  if redis.call('ZCARD', opens) >= terms.most and item.free ~= 1 then
    record.capped = 1
    save(record)
    return 'capped'
  end
  if item.free ~= 1 then redis.call('ZADD', opens, now, item.alert) end
  record.flaps = record.resolved_us > 0 and now - record.resolved_us < terms.damp_us and record.flaps + 1 or 0
  record.state, record.alert, record.opened_us, record.opened, record.capped = 'open', item.alert, now, terms.at, nil
  record.resolved_us, record.resolved, record.by, record.reason, record.quiet_us = 0, '', '', '', 0
  record.base, record.count = item.total - item.count, item.count
  publish(alerts, 'alert.opened', told(record), terms.at)
  save(record)
  return 'opened'
end

local function fires(record, item)
  if record and record.state == 'resolved' and record.muted == 1 then return 'muted' end
  if not record or record.state == 'resolved' then record = start(item, record) end
  follow(record, item)
  if record.state == 'pending' then
    record.count = item.count
    if now - record.since_us >= item.for_us then return open(record, item) end
    save(record)
    return 'pending'
  end
  record.quiet_us, record.count = 0, math.max(record.count, item.total - record.base)
  save(record)
  return 'open'
end

local function rests(record, item)
  if not record then return 'quiet' end
  if record.state == 'open' then
    if record.quiet_us == 0 then record.quiet_us = now end
    local answer = 'open'
    if now - record.quiet_us >= item.quiet_us * 2 ^ math.min(record.flaps, LONGEST) then
      resolve(record, terms.at, '', '')
      answer = 'resolved'
    end
    save(record)
    return answer
  end
  if record.alert == '' or now - record.resolved_us > terms.keep_us then
    redis.call('HDEL', records, item.key)
  elseif record.state == 'pending' or record.muted == 1 then
    record.state, record.muted, record.capped = 'resolved', nil, nil
    save(record)
  end
  return 'quiet'
end

local answers = {}
for index, item in ipairs(items) do
  local packed = redis.call('HGET', records, item.key)
  local record = packed and cmsgpack.unpack(packed) or nil
  answers[index] = item.fires == 1 and fires(record, item) or rests(record, item)
end
return answers
