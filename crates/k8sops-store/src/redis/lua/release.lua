-- Gives the ownership up, and says whether there is work left: an open run, memories to find, or commands.
-- Whoever comes late has nothing to give up, and what is left is for others to say.
-- KEYS: meta, inbox.  ARGV: epoch
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'open')
if meta[1] ~= ARGV[1] then return {'late'} end
redis.call('HDEL', KEYS[1], 'holder', 'until')
local work = meta[2] ~= '0' or redis.call('XLEN', KEYS[2]) > 0
return {'ok', work and 1 or 0}
