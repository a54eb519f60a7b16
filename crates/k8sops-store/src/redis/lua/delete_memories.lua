-- Deletes one memory of a user (memory_id), or all, with the vectors in all spaces. Returns how many there were, or that
-- the vector sets of the user are not vector_set_keys any more.
if redis.call('SCARD', spaces_key) ~= #vector_set_keys then return {'spaces_changed'} end
for _, set_key in ipairs(vector_set_keys) do
  if redis.call('SISMEMBER', spaces_key, set_key) == 0 then return {'spaces_changed'} end
end
-- The fields `epoch` and `writes` are not memories.
local count = math.max(redis.call('HLEN', memories_key) - 2, 0)
local deleted = count
if memory_id then
  deleted = redis.call('HDEL', memories_key, memory_id)
  if deleted == 0 then return {'deleted', 0} end
  if count > 1 then
    redis.call('ZADD', changes_key, redis.call('HINCRBY', memories_key, 'writes', 1), memory_id)
    redis.call('HDEL', vectors_key, memory_id)
    for _, set_key in ipairs(vector_set_keys) do redis.call('VREM', set_key, memory_id) end
    return {'deleted', deleted}
  end
end
-- Nothing is left: all keys of the user's memories go.
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return {'deleted', deleted}
