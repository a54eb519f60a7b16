-- Appends events to the log and consumes commands: the one way to write to a log. All of it takes effect, or nothing. A new
-- command can be accepted with the events that it causes, if no other command waits. It does not get into the inbox.
-- A call that is repeated with the same commit_id writes nothing, and gets the reply of the first call.
local current_epoch, holder, oldest_seq, last_seq, log_extent, last_commit, head, lost_seq, waiting = unpack(redis.call(
  'HMGET', meta_key, 'epoch', 'holder', 'oldest_seq', 'last_seq', 'log_extent', 'commit', 'head', 'lost_seq', 'waiting'))
if not current_epoch or not last_seq then return {'not_found'} end
if last_commit == commit_id then return {'committed'} end
if current_epoch ~= epoch or not holder then return {'fenced', tonumber(current_epoch)} end
if last_seq ~= expected_seq then return {'conflict', tonumber(last_seq)} end
-- After a failover that lost events, the seq and even the epoch can be the expected ones by accident. An older version
-- commits without a chain value; the one that is stored is then of an older seq.
local head_seq, head_lineage = string.match(head or '', '^(%d+) (%x+)$')
if expected_lineage and head_seq == last_seq and head_lineage ~= expected_lineage then
  return {'forked', tonumber(last_seq)}
end
if lost_seq and #events > 0 and tonumber(first_seq) <= tonumber(lost_seq) then return {'forked', tonumber(lost_seq)} end
-- A call that was reported after this owner had loaded the session is not in its `log_truncated`: it has to load again.
if says_lost then
  for line in string.gmatch(redis.call('HGET', meta_key, 'lost_calls') or '', '[^\n]+') do
    local is_json, call = pcall(cjson.decode, line)
    local id = is_json and call.tool_call_id
    if id and not string.find(events[1].json, '"' .. id .. '"', 1, true) then return {'forked', tonumber(last_seq)} end
  end
end
if redis.call('EXISTS', log_key) == 0 or not has_all_entries(log_key, oldest_seq, last_seq, log_extent) then
  return {'log_damaged', tonumber(last_seq)}
end
-- A failover has lost a command that the owner read before, and with it the receipt: the command may be sent again, and must
-- not run twice.
for _, position in ipairs(consumed) do
  local id = position .. '-0'
  if #redis.call('XRANGE', inbox_key, id, id) == 0 then return {'forked', tonumber(last_seq)} end
end
if receipt then
  local inbox_position, newest_receipt = unpack(redis.call('HMGET', meta_key, 'inbox', 'newest_receipt'))
  local known_receipt, is_new = find_receipt(receipts_key, receipt_id, command_id, inbox_position, newest_receipt)
  -- A list of another type is found before anything is written.
  redis.call('LLEN', receipt_order_key)
  local has_waiting = (tonumber(waiting) or 0) > 0 or redis.call('XLEN', inbox_key) > 0
  if known_receipt or not is_new or has_waiting then return {'declined'} end
end

for i, event in ipairs(events) do
  redis.call('XADD', log_key, string.format('%.0f-0', first_seq + i - 1), 'e', event.json, 'p', event.previous or '')
end
if says_lost then redis.call('HDEL', meta_key, 'lost_seq', 'lost_calls') end
for _, position in ipairs(consumed) do
  local id = position .. '-0'
  for _, entry in ipairs(redis.call('XRANGE', inbox_key, id, id)) do
    local fields = entry[2]
    for i = 1, #fields, 2 do
      -- What was restored from a backup is not counted.
      local is_counted = fields[i] == 'message' and fields[i + 1] == '1' and (tonumber(waiting) or 1) > 0
      if is_counted then waiting = redis.call('HINCRBY', meta_key, 'waiting', -1) end
    end
  end
  redis.call('XDEL', inbox_key, id)
end

if receipt then
  add_receipt(meta_key, receipts_key, receipt_order_key, receipt_id, last_seq, receipt, receipt_limit)
  -- By this, it is known that there must be receipts.
  if (tonumber(redis.call('HGET', meta_key, 'inbox')) or 0) == 0 then redis.call('HSET', meta_key, 'inbox', 1) end
end

if says_messages_lost then
  -- They may be sent again. The receipts of the others are made again from the log and the inbox.
  local waiting = 0
  for _, entry in ipairs(redis.call('XRANGE', inbox_key, '-', '+')) do
    local fields = entry[2]
    for i = 1, #fields, 2 do
      if fields[i] == 'message' and fields[i + 1] == '1' then waiting = waiting + 1 end
    end
  end
  redis.call('HSET', meta_key, 'waiting', waiting)
  redis.call('DEL', receipts_key, receipt_order_key)
end

local new_last_seq = expected_seq
if #events > 0 then new_last_seq = string.format('%.0f', first_seq + #events - 1) end
if lineage then redis.call('HSET', meta_key, 'head', new_last_seq .. ' ' .. lineage) end
redis.call('HSET', meta_key, 'last_seq', new_last_seq, 'commit', commit_id, 'summary', summary, 'open', open_work)
if checkpoint then
  redis.call('SET', checkpoint_key, checkpoint)
  if trim_log then
    -- The checkpoint covers all older events.
    oldest_seq = string.format('%.0f', expected_seq + 1)
    redis.call('XTRIM', log_key, 'MINID', '=', oldest_seq)
    redis.call('HSET', meta_key, 'oldest_seq', oldest_seq)
  end
end
-- By this, the loss of events in the middle is noticed.
if oldest_seq then
  local extent = string.format('%s %s %.0f', oldest_seq, new_last_seq, redis.call('XLEN', log_key))
  redis.call('HSET', meta_key, 'log_extent', extent)
end
if discard_preview or (closed_message and redis.call('HGET', meta_key, 'open_message') == closed_message) then
  redis.call('DEL', preview_key)
end
if closed_message then redis.call('HSET', meta_key, 'closed_message', closed_message) end
if session_ttl_ms then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, session_ttl_ms) end
end
-- What is written is committed, also if the user has no right to this channel: watchers look for events every few seconds.
if #events > 0 then redis.pcall(publish_command, log_channel, new_last_seq) end
return {'committed'}
