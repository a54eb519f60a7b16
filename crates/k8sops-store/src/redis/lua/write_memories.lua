-- Writes memories of a user and their vectors, unless they were written since the expected version. All of it takes
-- effect, or nothing.
local epoch, writes = unpack(redis.call('HMGET', memories_key, 'epoch', 'writes'))
if (epoch or '0') ~= expected_epoch or (writes or '0') ~= expected_writes then return {'conflict'} end

-- Vectors come first: if the server rejects one, no memory has been written, and a vector without a memory is not found.
for _, change in ipairs(changes) do
  if change.vector_set then
    local set_key = vector_set_keys[tonumber(change.vector_set)]
    if change.vector then
      redis.call('SADD', spaces_key, set_key)
      -- NOQUANT: merging compares cosines to two decimal places, and must get the same result without vector sets.
      redis.call('VADD', set_key, 'FP32', change.vector, change.id, 'NOQUANT', 'SETATTR', change.attributes)
    else
      redis.call('VSETATTR', set_key, change.id, change.attributes)
    end
  end
end

local new_writes = string.format('%.0f', tonumber(expected_writes) + 1)
for _, change in ipairs(changes) do
  redis.call('HSET', memories_key, change.id, change.record)
  redis.call('ZADD', changes_key, new_writes, change.id)
  if not change.in_hash then
    redis.call('HDEL', vectors_key, change.id)
  elseif change.vector then
    redis.call('HSET', vectors_key, change.id, change.vector)
  end
  if change.previous_vector_set then
    local set_key = vector_set_keys[tonumber(change.previous_vector_set)]
    redis.call('VREM', set_key, change.id)
    if redis.call('EXISTS', set_key) == 0 then redis.call('SREM', spaces_key, set_key) end
  end
end
redis.call('HSET', memories_key, 'epoch', new_epoch, 'writes', new_writes)
return {'written'}
