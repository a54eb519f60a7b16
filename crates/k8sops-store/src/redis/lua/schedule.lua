-- Says when somebody should look at a session next. The time of an entry only grows, so that whoever takes one away can
-- tell whether it is the one that was looked at.
-- KEYS: work.  ARGV: session, ms from now
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if before and tonumber(before) >= at then at = tonumber(before) + 1 end
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
return {'ok'}
