-- Puts a command into the inbox. One that was taken before gives its first receipt again.
-- KEYS: meta, inbox, receipts, receipt_order
-- ARGV: sender and command id, fingerprint, receipt, command, is a message ('0'|'1'), only if idle ('0'|'1'), most messages that wait,
--   most commands that wait, most receipts, ttl (ms; 0: none), channel,
--   command id
local meta = redis.call('HMGET', KEYS[1], 'last_seq', 'waiting', 'open')
if not meta[1] then return {'not_found'} end
-- Older versions kept it under the id alone.
local known = redis.call('HGET', KEYS[3], ARGV[1]) or redis.call('HGET', KEYS[3], ARGV[12])
if known then return {'known', known} end
if ARGV[5] == '1' then
  local messages = tonumber(meta[2])
  if ARGV[6] == '1' and (meta[3] == '1' or messages > 0) then return {'busy'} end
  if messages >= tonumber(ARGV[7]) then return {'full', tonumber(ARGV[7])} end
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[8]) then return {'full', tonumber(ARGV[8])} end
local position = redis.call('HINCRBY', KEYS[1], 'inbox', 1)
redis.call('HINCRBY', KEYS[1], 'waiting', ARGV[5])
redis.call('XADD', KEYS[2], position .. '-0', 'seq', meta[1], 'message', ARGV[5], 'command', ARGV[4])
redis.call('HSET', KEYS[3], ARGV[1], meta[1] .. ' ' .. ARGV[3])
if redis.call('RPUSH', KEYS[4], ARGV[1]) > tonumber(ARGV[9]) then
  redis.call('HDEL', KEYS[3], redis.call('LPOP', KEYS[4]))
end
if ARGV[10] ~= '0' then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[10]) end
end
redis.call('PUBLISH', ARGV[11], tostring(position))
return {'ok', tonumber(meta[1])}
