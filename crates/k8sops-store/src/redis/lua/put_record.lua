-- Writes a record, unless there is one with this id. Removes the records of the group that have expired.
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', expiries_key, '-inf', now)) do
  redis.call('HDEL', records_key, expired)
end
redis.call('ZREMRANGEBYSCORE', expiries_key, '-inf', now)
local known = redis.call('HGET', records_key, id)
if known and not replace then return {'exists', known} end
redis.call('HSET', records_key, id, record)
redis.call('ZADD', expiries_key, expires_at, id)
-- Both keys last as long as the newest record, and a little longer for clocks that differ.
local last = redis.call('ZRANGE', expiries_key, -1, -1, 'WITHSCORES')[2]
local lifetime = string.format('%.0f', math.max(last - now, 0) + 60000)
redis.call('PEXPIRE', records_key, lifetime)
redis.call('PEXPIRE', expiries_key, lifetime)
return {'written'}
