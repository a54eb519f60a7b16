-- Appends chunks to the preview of the open message, and reports whether other processes than the owner have streams of the
-- session.
local current_epoch, holder, open_message, closed_message, open_work, last_position =
  unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'open_message', 'closed_message', 'open', 'preview'))
if current_epoch ~= epoch or not holder or open_work ~= '1' or closed_message == message then return {'rejected'} end
if open_message ~= message then redis.call('HSET', meta_key, 'open_message', message) end
-- A key of another type is replaced.
local is_foreign = type(redis.pcall('XLEN', preview_key)) == 'table'
if open_message ~= message or is_whole or is_foreign then redis.call('DEL', preview_key) end
-- The position is the time: after a failover that has lost chunks, readers that have seen them must not miss the next ones.
local time = redis.call('TIME')
local position = math.max(tonumber(last_position) or 0, time[1] * 1000000 + time[2])
for _, chunk in ipairs(chunks) do
  position = position + 1
  redis.call('XADD', preview_key, string.format('%.0f-0', position), 'p', chunk)
end
redis.call('HSET', meta_key, 'preview', string.format('%.0f', position))
-- Bounds how long the preview of an owner that crashed is kept.
redis.call('PEXPIRE', preview_key, preview_ttl_ms)
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for _, watcher in ipairs(redis.pcall('ZRANGEBYSCORE', watchers_key, now, '+inf', 'LIMIT', 0, 2)) do
  if watcher ~= holder then
    redis.pcall(publish_command, log_channel, 'preview')
    return {'watched'}
  end
end
return {'unwatched'}
