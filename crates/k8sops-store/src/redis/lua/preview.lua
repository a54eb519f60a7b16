-- Adds pieces to what is shown of the open message before it is committed.
-- KEYS: meta, preview.  ARGV: epoch, message, ttl (ms), channel, then the pieces, each a JSON text
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'open_message', 'closed_message', 'open')
if meta[1] ~= ARGV[1] or not meta[2] or meta[5] ~= '1' or meta[4] == ARGV[2] then return {'fenced', tonumber(meta[1])} end
if meta[3] ~= ARGV[2] then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'open_message', ARGV[2])
end
local place
for i = 5, #ARGV do
  place = redis.call('HINCRBY', KEYS[1], 'preview', 1)
  redis.call('XADD', KEYS[2], place .. '-0', 'p', ARGV[i])
end
-- An owner that dies in the middle of a message leaves no more than this.
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[4], 'preview')
return {'ok'}
