-- Extends the lease of a session.
local current_epoch, holder = unpack(redis.call('HMGET', meta_key, 'epoch', 'holder'))
if not current_epoch then return {'not_found'} end
if current_epoch ~= epoch or not holder then return {'fenced', tonumber(current_epoch)} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', meta_key, 'until', string.format('%.0f', now + ttl_ms))
return {'renewed'}
