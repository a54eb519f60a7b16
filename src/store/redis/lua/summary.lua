-- A session's summary, and whether a message waits in its inbox, as of the same instant.
-- KEYS: meta, inbox
local summary = redis.call('HGET', KEYS[1], 'summary')
if not summary then return false end
local from = '-'
while true do
  -- One at a time: what waits may be large, and mostly it is nothing, or a message first.
  local entry = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 1)[1]
  if not entry then return {summary, 0} end
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'message' and entry[2][i + 1] == '1' then return {summary, 1} end
  end
  from = '(' .. entry[1]
end
