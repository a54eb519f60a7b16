-- Takes the care for a user's vectors, goes on with it, or gives it back. KEYS: upkeep. ARGV: holder, time (ms; 0: give back)
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
