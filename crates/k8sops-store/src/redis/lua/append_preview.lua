-- Appends chunks to the preview of the open message, and reports whether other processes than the owner have streams of the
-- session.
local current_epoch, holder, open_message, closed_message, open_work =
  unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'open_message', 'closed_message', 'open'))
if current_epoch ~= epoch or not holder or open_work ~= '1' or closed_message == message then return {'rejected'} end
if open_message ~= message then redis.call('HSET', meta_key, 'open_message', message) end
-- A key of another type is replaced.
local is_foreign = type(redis.pcall('XLEN', preview_key)) == 'table'
if open_message ~= message or is_whole or is_foreign then redis.call('DEL', preview_key) end
for _, chunk in ipairs(chunks) do
  local position = redis.call('HINCRBY', meta_key, 'preview', 1)
  redis.call('XADD', preview_key, position .. '-0', 'p', chunk)
end
-- Bounds how long the preview of an owner that crashed is kept.
redis.call('PEXPIRE', preview_key, preview_ttl_ms)
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for _, watcher in ipairs(redis.pcall('ZRANGEBYSCORE', watchers_key, now, '+inf', 'LIMIT', 0, 2)) do
  if watcher ~= holder then
    redis.pcall('PUBLISH', log_channel, 'preview')
    return {'watched'}
  end
end
return {'unwatched'}
