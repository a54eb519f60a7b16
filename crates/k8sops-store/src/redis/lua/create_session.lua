-- Creates a session with its first event.
if redis.call('EXISTS', meta_key) == 1 then return {'exists'} end
redis.call('HSET', meta_key, 'user', user, 'summary', summary, 'last_seq', 1, 'oldest_seq', 1, 'epoch', 0,
  'inbox', 0, 'waiting', 0, 'open', 0, 'head', '1 ' .. lineage, 'log_extent', '1 1 1')
local history, process = server_identity()
if history and process then redis.call('HSET', meta_key, 'server', history, 'server_process', process) end
redis.call('XADD', log_key, '1-0', 'e', first_event, 'p', '')
if session_ttl_ms then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, session_ttl_ms) end
end
return {'created'}
