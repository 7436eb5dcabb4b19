-- alert_end: resolve an open alert on a person's word. It stays so until its pattern was quiet once: the word is not undone by the next look.
-- Idempotent: the second time it is resolved already.
-- KEYS[1] shard   tag     prefix of alerts (hash)
-- KEYS[2] alerts  stream  the topic
-- ARGV[1] key     string  the pattern
-- ARGV[2] alert   string  the alert that is meant
-- ARGV[3] at      string  the time for people
-- ARGV[4] by      string  whose word it is
-- ARGV[5] reason  string  why
-- RETURN  {"resolved" or "closed", packed record} or {"unknown"}; closed: it was resolved before
local shard, alerts, key, alert, at, by, reason = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- USES alert
local packed = redis.call('HGET', records, key)
local record = packed and cmsgpack.unpack(packed) or nil
if not record or record.alert ~= alert then return {'unknown'} end
if record.state ~= 'open' then return {'closed', packed} end
resolve(record, at, by, reason)
record.muted = 1
packed = cmsgpack.pack(record)
redis.call('HSET', records, key, packed)
return {'resolved', packed}
