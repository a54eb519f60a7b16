-- Writes memories of a user and their vectors, if nobody else has written since: all of it, or nothing.
-- KEYS: memories, changes, vectors, spaces, then vector sets
-- ARGV: epoch and writes as they are to be found, epoch from now on; then six for each memory: id, record, vector ('': as
--   it is), where it goes ('': nowhere, 'hash', or a number in KEYS), the vector set that it leaves ('' or a number in
--   KEYS), attributes in the vector set that it stays in or goes to ('': none)
local found = redis.call('HMGET', KEYS[1], 'epoch', 'writes')
if (found[1] or '0') ~= ARGV[1] or (found[2] or '0') ~= ARGV[2] then return 0 end
-- Vectors first: should the server refuse one, no memory has been written, and a vector without one is not found.
for i = 4, #ARGV, 6 do
  local id, vector, into, attributes = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5]
  local set = tonumber(into)
  if set and vector ~= '' then
    redis.call('SADD', KEYS[4], KEYS[set])
    -- NOQUANT: what is merged is decided by hundredths of a cosine, and both ways of searching are to agree.
    redis.call('VADD', KEYS[set], 'FP32', vector, id, 'NOQUANT', 'SETATTR', attributes)
  elseif set then
    redis.call('VSETATTR', KEYS[set], id, attributes)
  end
end
local writes = string.format('%.0f', tonumber(ARGV[2]) + 1)
for i = 4, #ARGV, 6 do
  local id, record, vector, into, left = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  redis.call('HSET', KEYS[1], id, record)
  redis.call('ZADD', KEYS[2], writes, id)
  if into ~= 'hash' then redis.call('HDEL', KEYS[3], id)
  elseif vector ~= '' then redis.call('HSET', KEYS[3], id, vector) end
  if left then
    redis.call('VREM', KEYS[left], id)
    if redis.call('EXISTS', KEYS[left]) == 0 then redis.call('SREM', KEYS[4], KEYS[left]) end
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'writes', writes)
return 1
