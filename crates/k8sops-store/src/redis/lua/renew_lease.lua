-- Extends the lease of a session, and reports what its owner would be notified of: commands, and streams in other processes.
local current_epoch, holder, inbox_position = unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'inbox'))
if not current_epoch then return {'not_found'} end
if current_epoch ~= epoch or not holder then return {'fenced', tonumber(current_epoch)} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', meta_key, 'until', string.format('%.0f', now + ttl_ms))
local is_watched = 0
-- Announcements are repeated, so that a key of another type must not end the lease.
local watchers = redis.pcall('ZRANGEBYSCORE', watchers_key, string.format('%.0f', now), '+inf', 'LIMIT', 0, 2)
for _, watcher in ipairs(watchers) do
  if watcher ~= holder then is_watched = 1 end
end
return {'renewed', inbox_position or '0', is_watched}
