-- The one way to write to a log: all of it, or nothing. Sent again with the same id, it answers as the first time.
-- KEYS: meta, log, checkpoint, inbox, preview, receipts, receipt_order, outputs
-- ARGV: epoch, expected_seq, commit id, summary, open ('0': no run, '1': a run, '2': no run, but memories to find), checkpoint ('': none), checkpoint is the new beginning
--   ('0'|'1'), message that is closed (''), all previews are void ('0'|'1'), ttl (ms; 0: none), channel, number of places
--   consumed, those, the events
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'last_seq', 'commit')
if not meta[1] then return {'not_found'} end
if meta[4] == ARGV[3] then return {'ok'} end
if meta[1] ~= ARGV[1] or not meta[2] then return {'fenced', tonumber(meta[1])} end
if meta[3] ~= ARGV[2] then return {'conflict', tonumber(meta[3])} end
local expected = tonumber(ARGV[2])
local consumed = tonumber(ARGV[12])
local first = 13 + consumed
for i = first, #ARGV do
  redis.call('XADD', KEYS[2], string.format('%.0f-0', expected + i - first + 1), 'e', ARGV[i])
end
for i = 13, first - 1 do
  local id = ARGV[i] .. '-0'
  for _, entry in ipairs(redis.call('XRANGE', KEYS[4], id, id)) do
    for field = 1, #entry[2], 2 do
      if entry[2][field] == 'message' and entry[2][field + 1] == '1' then redis.call('HINCRBY', KEYS[1], 'waiting', -1) end
    end
  end
  redis.call('XDEL', KEYS[4], id)
end
local count = #ARGV - first + 1
redis.call('HSET', KEYS[1], 'last_seq', string.format('%.0f', expected + count), 'commit', ARGV[3], 'summary', ARGV[4],
  'open', ARGV[5])
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[3], ARGV[6])
  if ARGV[7] == '1' then
    -- What the checkpoint holds need not be in the log.
    redis.call('XTRIM', KEYS[2], 'MINID', '=', string.format('%.0f', expected + 1))
    redis.call('HSET', KEYS[1], 'oldest_seq', string.format('%.0f', expected + 1))
  end
end
if ARGV[9] == '1' or (ARGV[8] ~= '' and redis.call('HGET', KEYS[1], 'open_message') == ARGV[8]) then
  redis.call('DEL', KEYS[5])
end
if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], 'closed_message', ARGV[8]) end
if ARGV[10] ~= '0' then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[10]) end
end
if count > 0 then redis.call('PUBLISH', ARGV[11], string.format('%.0f', expected + count)) end
return {'ok'}
