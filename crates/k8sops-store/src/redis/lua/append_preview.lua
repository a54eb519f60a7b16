-- Appends chunks to the preview of the open message.
local current_epoch, holder, open_message, closed_message, open_work =
  unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'open_message', 'closed_message', 'open'))
if current_epoch ~= epoch or not holder or open_work ~= '1' or closed_message == message then return {'rejected'} end
if open_message ~= message then
  redis.call('DEL', preview_key)
  redis.call('HSET', meta_key, 'open_message', message)
end
for _, chunk in ipairs(chunks) do
  local position = redis.call('HINCRBY', meta_key, 'preview', 1)
  redis.call('XADD', preview_key, position .. '-0', 'p', chunk)
end
-- Bounds how long the preview of an owner that crashed is kept.
redis.call('PEXPIRE', preview_key, preview_ttl_ms)
redis.pcall('PUBLISH', log_channel, 'preview')
return {'appended'}
