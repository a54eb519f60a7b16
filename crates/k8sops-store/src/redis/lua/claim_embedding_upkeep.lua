-- Claims the upkeep of a user's vectors, extends the claim, or releases it (without ttl_ms).
local current_holder = redis.call('GET', upkeep_key)
if current_holder and current_holder ~= holder then return {'held'} end
if ttl_ms then redis.call('SET', upkeep_key, holder, 'PX', ttl_ms) else redis.call('DEL', upkeep_key) end
return {'granted'}
