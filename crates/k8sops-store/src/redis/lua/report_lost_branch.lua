-- Records how far a log once went, and which calls were sent, after the server has lost the newest events.
local last_seq, lost_seq, lost_calls = unpack(redis.call('HMGET', meta_key, 'last_seq', 'lost_seq', 'lost_calls'))
if not last_seq then return {'not_found'} end
-- The log has left these seqs behind already.
if tonumber(known_seq) <= tonumber(last_seq) and not calls then return {'recorded'} end
if not lost_seq or tonumber(lost_seq) < tonumber(known_seq) then redis.call('HSET', meta_key, 'lost_seq', known_seq) end
-- A process reports again until it knows that an owner has written the loss into the log.
lost_calls = lost_calls or ''
if calls and not string.find(lost_calls, calls, 1, true) then redis.call('HSET', meta_key, 'lost_calls', lost_calls .. calls) end
return {'recorded'}
