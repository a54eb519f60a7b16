-- Schedules a session to be claimed after a delay. The time of a scheduled session only grows, so that
-- unschedule_if_unchanged can tell whether the session was scheduled again.
local time = redis.call('TIME')
local due_at = time[1] * 1000 + math.floor(time[2] / 1000) + delay_ms
local scheduled_at = redis.call('ZSCORE', work_key, session)
if scheduled_at and tonumber(scheduled_at) >= due_at then due_at = tonumber(scheduled_at) + 1 end
redis.call('ZADD', work_key, string.format('%.0f', due_at), session)
