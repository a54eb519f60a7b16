-- Acquires the lease of a session under a new epoch, unless the lease of another owner has not expired.
local last_epoch, holder, expires_at = unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'until'))
if not last_epoch then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if holder and holder ~= owner and tonumber(expires_at) > now then
  return {'held', tonumber(expires_at) - now}
end
local epoch = last_epoch + 1
redis.call('HSET', meta_key, 'epoch', epoch, 'holder', owner, 'until', string.format('%.0f', now + ttl_ms))
return {'acquired', epoch}
