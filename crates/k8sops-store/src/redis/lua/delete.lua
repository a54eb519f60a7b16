-- Removes a session and all that belongs to it.
-- KEYS: meta, log, checkpoint, inbox, and all others.  ARGV: channel of the log, channel of the inbox, only if it has no work
--   ('0'|'1')
local open = redis.call('HGET', KEYS[1], 'open')
if open and ARGV[3] == '1' and (open == '1' or redis.call('XLEN', KEYS[4]) > 0) then return {'busy'} end
redis.call('DEL', unpack(KEYS))
if not open then return {'not_found'} end
redis.call('PUBLISH', ARGV[1], 'gone')
redis.call('PUBLISH', ARGV[2], 'gone')
return {'ok'}
