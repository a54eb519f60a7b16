-- Takes a session off the schedule that was found without work, unless something came in since.
-- KEYS: work.  ARGV: session, its time when it was looked at
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end
return {'ok'}
