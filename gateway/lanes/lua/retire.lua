-- retire: forget a consumer that has nothing pending; one that was given something meanwhile is kept, for deleting it would lose that.
-- KEYS[1] stream    stream  where it consumed
-- ARGV[1] group     string  its group
-- ARGV[2] consumer  string  its name
-- RETURN  1 when it was forgotten, 0 when it still holds entries
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return 1
