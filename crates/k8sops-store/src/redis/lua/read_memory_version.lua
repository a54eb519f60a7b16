-- Returns the version of a user's memories, and whether the server supports vector sets (0 if it was not probed).
local epoch, writes = unpack(redis.call('HMGET', memories_key, 'epoch', 'writes'))
local has_vector_sets = 0
-- The key never exists. A server that knows the command, and permits it, returns 0.
if probe_vector_sets and type(redis.pcall('VCARD', spaces_key .. ':none')) == 'number' then has_vector_sets = 1 end
return {tonumber(epoch or '0'), tonumber(writes or '0'), has_vector_sets}
