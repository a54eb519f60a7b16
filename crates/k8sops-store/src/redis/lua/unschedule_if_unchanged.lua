-- Removes a session from the schedule, unless it was scheduled again since scheduled_at was read.
if redis.call('ZSCORE', work_key, session) == scheduled_at then redis.call('ZREM', work_key, session) end
