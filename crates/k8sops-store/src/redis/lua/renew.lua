-- Holds the ownership for another while.
-- KEYS: meta.  ARGV: epoch, ttl (ms)
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'holder')
if not meta[1] then return {'not_found'} end
if meta[1] ~= ARGV[1] or not meta[2] then return {'fenced', tonumber(meta[1])} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
return {'ok'}
