-- Acquires the lease of a session under a new epoch, unless the lease of another owner has not expired.
local last_epoch, holder, expires_at, last_seq, known_history, known_process, lost_seq = unpack(redis.call(
  'HMGET', meta_key, 'epoch', 'holder', 'until', 'last_seq', 'server', 'server_process', 'lost_seq'))
if not last_epoch or not last_seq then return {'not_found'} end
-- A session that lacks one of these cannot be continued.
for _, field in ipairs(redis.call('HMGET', meta_key, 'user', 'summary', 'oldest_seq', 'inbox', 'open')) do
  if not field then return {'not_found'} end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if holder and holder ~= owner and tonumber(expires_at) > now then
  -- A lease that ends much later was written before the clock of the server stepped back, or by a server whose clock was ahead.
  -- An older version has longer leases, but not as long.
  local latest_end = now + 4 * ttl_ms
  if tonumber(expires_at) > latest_end then
    expires_at = latest_end
    redis.call('HSET', meta_key, 'until', string.format('%.0f', expires_at))
  end
  return {'held', tonumber(expires_at) - now}
end
-- A replica that was promoted, or a server that was restarted, may lack events that no process reports, because those that have
-- seen them have ended or are slower than the new owner. It must not use their seqs again, so that what clients have seen is
-- noticed. With an append-only file, a restart loses what the server had not yet written, which is two seconds at most.
local history, process = server_identity(known_history)
if history and process then
  local is_other_history = known_history and known_history ~= history
  local is_restarted = known_process and known_process ~= process
  -- An owner without a break knows itself how far it went. After a break, another one may have been lost with all it wrote.
  local knows_log = holds_log and holder == owner and tonumber(expires_at) > now
  if (is_other_history or is_restarted) and not knows_log and not lost_seq then
    redis.call('HSET', meta_key, 'lost_seq', last_seq)
  end
  redis.call('HSET', meta_key, 'server', history, 'server_process', process)
end
-- The time, because a failover can lose an epoch, and its owner may live on.
local epoch = math.max(last_epoch + 1, now)
local lease_end = string.format('%.0f', now + ttl_ms)
redis.call('HSET', meta_key, 'epoch', string.format('%.0f', epoch), 'holder', owner, 'until', lease_end)
return {'acquired', epoch}
