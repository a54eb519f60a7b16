-- Keeps pieces of whole outputs, and drops others, if the session is there.
-- KEYS: meta, outputs.  ARGV: ttl (ms; 0: none), number of fields to drop, those, then fields and their values
if redis.call('EXISTS', KEYS[1]) == 0 then return {'not_found'} end
local drop = tonumber(ARGV[2])
for i = 3, 2 + drop do redis.call('HDEL', KEYS[2], ARGV[i]) end
for i = 3 + drop, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
return {'ok'}
