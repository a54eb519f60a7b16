-- Begins a session.
-- KEYS: meta, log.  ARGV: user, summary, event, ttl (ms; 0: none)
if redis.call('EXISTS', KEYS[1]) == 1 then return {'exists'} end
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'summary', ARGV[2], 'last_seq', 1, 'oldest_seq', 1, 'epoch', 0,
  'inbox', 0, 'waiting', 0, 'open', 0)
redis.call('XADD', KEYS[2], '1-0', 'e', ARGV[3])
if ARGV[4] ~= '0' then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
end
return {'ok'}
