-- Acquires the lease of a session under a new epoch, unless the lease of another owner has not expired.
local last_epoch, holder, expires_at, last_seq, known_server, lost_seq =
  unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'until', 'last_seq', 'server', 'lost_seq'))
if not last_epoch then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if holder and holder ~= owner and tonumber(expires_at) > now then
  return {'held', tonumber(expires_at) - now}
end
-- Another server, or this one after a restart, may lack events that no process reports, because those that have seen them have
-- ended or are slower than the new owner. It must not use their seqs again, so that what clients have seen is noticed.
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if server and server ~= known_server then
  redis.call('HSET', meta_key, 'server', server)
  if known_server and not lost_seq then redis.call('HSET', meta_key, 'lost_seq', last_seq) end
end
local epoch = last_epoch + 1
redis.call('HSET', meta_key, 'epoch', epoch, 'holder', owner, 'until', string.format('%.0f', now + ttl_ms))
return {'acquired', epoch}
