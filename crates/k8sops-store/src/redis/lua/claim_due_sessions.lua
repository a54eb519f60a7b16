-- Claims scheduled sessions that are due: until retry_after_ms have passed, no other caller gets them. Those that the caller owns
-- are deferred, so that no caller claims them. Returns the claimed ones, and in how many milliseconds the next one is due.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept_until = string.format('%.0f', now + keep_ms)
for _, session in ipairs(own_sessions) do
  redis.call('ZADD', work_key, 'XX', 'GT', kept_until, session)
end
local due = redis.call('ZRANGEBYSCORE', work_key, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)
for _, session in ipairs(due) do
  redis.call('ZADD', work_key, string.format('%.0f', now + retry_after_ms), session)
end
-- Times further ahead were written before the clock of the server stepped back, or by a server whose clock was ahead.
local misdated = redis.call(
  'ZRANGEBYSCORE', work_key, string.format('(%.0f', now + longest_delay_ms), '+inf', 'LIMIT', 0, limit)
for _, session in ipairs(misdated) do
  redis.call('ZADD', work_key, string.format('%.0f', now + retry_after_ms), session)
end
local first = redis.call('ZRANGE', work_key, 0, 0, 'WITHSCORES')
local next_due = first[2] and string.format('%.0f', math.max(first[2] - now, 0))
return {due, next_due or false}
