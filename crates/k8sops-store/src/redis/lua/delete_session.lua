-- Deletes all keys of a session. One that is damaged is never deleted as an idle one: it may be repaired.
local open_work = redis.pcall('HGET', meta_key, 'open')
if type(open_work) == 'string' and only_if_idle then
  if redis.call('EXISTS', log_key) == 0 then return {'log_missing'} end
  if open_work == '1' or redis.call('XLEN', inbox_key) > 0 then return {'busy'} end
end
if redis.call('DEL', unpack(KEYS)) == 0 then return {'not_found'} end
redis.pcall(publish_command, log_channel, 'gone')
redis.pcall(publish_command, inbox_channel, 'gone')
return {'deleted'}
