-- Deletes and writes fields of the outputs of a session, if the session exists.
if redis.call('EXISTS', meta_key) == 0 then return {'not_found'} end
for _, field in ipairs(dropped_fields) do redis.call('HDEL', outputs_key, field) end
for _, field in ipairs(written_fields) do redis.call('HSET', outputs_key, field.name, field.value) end
if session_ttl_ms then redis.call('PEXPIRE', outputs_key, session_ttl_ms) end
return {'written'}
