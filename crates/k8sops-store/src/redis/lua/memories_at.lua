-- The newest write to a user's memories, and whether the server has vector sets.
-- KEYS: memories, spaces. ARGV: whether to look for vector sets ('0'|'1')
local found = redis.call('HMGET', KEYS[1], 'epoch', 'writes')
local sets = 0
if ARGV[1] == '1' then
  -- Of a key that never is: a server that knows the command, and lets us, answers 0.
  if type(redis.pcall('VCARD', KEYS[2] .. ':none')) == 'number' then sets = 1 end
end
return {tonumber(found[1] or '0'), tonumber(found[2] or '0'), sets}
