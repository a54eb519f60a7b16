-- Removes a session and all that belongs to it.
-- KEYS: meta, and all others.  ARGV: channel of the log, channel of the inbox
local there = redis.call('EXISTS', KEYS[1])
redis.call('DEL', unpack(KEYS))
if there == 0 then return {'not_found'} end
redis.call('PUBLISH', ARGV[1], 'gone')
redis.call('PUBLISH', ARGV[2], 'gone')
return {'ok'}
