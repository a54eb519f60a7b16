-- Removes a record and returns it.
local record = redis.call('HGET', records_key, id)
if not record then return {'not_found'} end
redis.call('HDEL', records_key, id)
redis.call('ZREM', expiries_key, id)
return {'taken', record}
