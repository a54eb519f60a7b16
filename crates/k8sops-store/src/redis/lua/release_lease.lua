-- Releases the lease of a session and reports whether the session has unfinished work: an open run, memories to extract,
-- or queued commands. An owner that was superseded has no lease to release; the newer owner reports the work.
local current_epoch, open_work = unpack(redis.call('HMGET', meta_key, 'epoch', 'open'))
if current_epoch ~= epoch then return {'superseded'} end
redis.call('HDEL', meta_key, 'holder', 'until')
if open_work ~= '0' or redis.call('XLEN', inbox_key) > 0 then return {'unfinished'} end
return {'idle'}
