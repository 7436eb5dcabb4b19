-- judge: write down what was decided about a finding. Idempotent: the same decision again changes and tells nothing.
-- KEYS[1] shard        tag     prefix of findings (hash)
-- KEYS[2] events       stream  lifecycle events
-- ARGV[1] fingerprint  string  the finding
-- ARGV[2] state        string  open, accepted or rejected
-- ARGV[3] event        string  what is told when it changes
-- RETURN  "judged", "same" or "unknown"
local shard, events, fingerprint, state, event = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local packed = redis.call('HGET', shard .. ':findings', fingerprint)
if not packed then return 'unknown' end
local kept = cmsgpack.unpack(packed)
if kept.state == state then return 'same' end
kept.state = state
redis.call('HSET', shard .. ':findings', fingerprint, cmsgpack.pack(kept))
redis.call('XADD', events, '*', 'data', event)
return 'judged'
