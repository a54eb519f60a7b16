-- Removes one memory of a user, or all, with the vectors in all spaces. Answers how many there were; -1: the spaces are
-- others by now.
-- KEYS: memories, changes, vectors, spaces, upkeep, then all vector sets. ARGV: id ('': all)
if redis.call('SCARD', KEYS[4]) ~= #KEYS - 5 then return -1 end
for i = 6, #KEYS do
  if redis.call('SISMEMBER', KEYS[4], KEYS[i]) == 0 then return -1 end
end
-- Two fields are not memories.
local there = math.max(redis.call('HLEN', KEYS[1]) - 2, 0)
local gone = there
if ARGV[1] ~= '' then
  gone = redis.call('HDEL', KEYS[1], ARGV[1])
  if gone == 0 then return 0 end
  if there > 1 then
    redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'writes', 1), ARGV[1])
    redis.call('HDEL', KEYS[3], ARGV[1])
    for i = 6, #KEYS do redis.call('VREM', KEYS[i], ARGV[1]) end
    return gone
  end
end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return gone
