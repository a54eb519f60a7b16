-- Announces that a process has streams of a session. Until the announcement expires, an owner in another process writes previews.
local last_seq, holder = unpack(redis.call('HMGET', meta_key, 'last_seq', 'holder'))
if not last_seq then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A key of another type is replaced.
local expired = redis.pcall('ZREMRANGEBYSCORE', watchers_key, '-inf', string.format('%.0f', now))
if type(expired) == 'table' then redis.call('DEL', watchers_key) end
local was_announced = redis.call('ZSCORE', watchers_key, watcher)
redis.call('ZADD', watchers_key, string.format('%.0f', now + ttl_ms), watcher)
redis.call('PEXPIRE', watchers_key, ttl_ms)
-- An owner that is not notified learns of it when it renews its lease.
if not was_announced and holder and holder ~= watcher then redis.pcall(publish_command, inbox_channel, 'watched') end
return {'announced'}
