-- Takes the ownership under a new epoch, unless another owner's lease runs.
-- KEYS: meta.  ARGV: owner, ttl (ms)
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'until')
if not meta[1] then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if meta[2] and meta[2] ~= ARGV[1] and tonumber(meta[3]) > now then
  return {'held', tonumber(meta[3]) - now}
end
local epoch = meta[1] + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
return {'ok', epoch}
