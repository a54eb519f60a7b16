-- Claims scheduled sessions that are due: until retry_after_ms have passed, no other caller gets them.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', work_key, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)
for _, session in ipairs(due) do
  redis.call('ZADD', work_key, string.format('%.0f', now + retry_after_ms), session)
end
return due
