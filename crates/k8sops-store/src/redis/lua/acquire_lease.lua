-- Acquires the lease of a session under a new epoch, unless the lease of another owner has not expired.
local last_epoch, holder, expires_at, last_seq, known_server, last_owner, lost_seq =
  unpack(redis.call('HMGET', meta_key, 'epoch', 'holder', 'until', 'last_seq', 'server', 'owner', 'lost_seq'))
if not last_epoch then return {'not_found'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if holder and holder ~= owner and tonumber(expires_at) > now then
  return {'held', tonumber(expires_at) - now}
end
-- A replica that was promoted, or a server that was restarted from a snapshot, may lack events that no process reports, because
-- those that have seen them have ended or are slower than the new owner. It must not use their seqs again, so that what clients
-- have seen is noticed.
local server = server_identity(known_server)
if server and server ~= known_server then
  redis.call('HSET', meta_key, 'server', server)
  -- The owner that was the last one knows itself how far it went.
  if known_server and last_owner ~= owner and not lost_seq then redis.call('HSET', meta_key, 'lost_seq', last_seq) end
end
-- The time, because a failover can lose an epoch, and its owner may live on.
local epoch = math.max(last_epoch + 1, now)
local lease_end = string.format('%.0f', now + ttl_ms)
redis.call('HSET', meta_key, 'epoch', string.format('%.0f', epoch), 'holder', owner, 'owner', owner, 'until', lease_end)
return {'acquired', epoch}
