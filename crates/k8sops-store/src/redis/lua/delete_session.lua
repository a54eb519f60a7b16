-- Deletes all keys of a session.
local open_work = redis.call('HGET', meta_key, 'open')
if open_work and only_if_idle and (open_work == '1' or redis.call('XLEN', inbox_key) > 0) then return {'busy'} end
redis.call('DEL', unpack(KEYS))
if not open_work then return {'not_found'} end
redis.pcall('PUBLISH', log_channel, 'gone')
redis.pcall('PUBLISH', inbox_channel, 'gone')
return {'deleted'}
