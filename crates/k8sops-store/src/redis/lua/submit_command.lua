-- Appends a command to the inbox. A command that was accepted before gets its first receipt.
local last_seq, oldest_seq, log_extent, inbox_position, waiting, open_work, newest_receipt = unpack(redis.call(
  'HMGET', meta_key, 'last_seq', 'oldest_seq', 'log_extent', 'inbox', 'waiting', 'open', 'newest_receipt'))
if not last_seq then return {'not_found'} end
-- What no owner could load accepts no commands. Its watchers look, and find the same.
local newest = redis.call('XRANGE', log_key, last_seq .. '-0', '+', 'COUNT', 2)
local is_whole = #newest == 1 and newest[1][1] == last_seq .. '-0'
  and has_all_entries(log_key, oldest_seq, last_seq, log_extent)
local kept_from = tonumber(oldest_seq) or 1
-- With all events in a checkpoint, the log is empty.
if kept_from > tonumber(last_seq) then is_whole = #newest == 0 and redis.call('EXISTS', log_key) == 1 end
if kept_from > 1 and redis.call('EXISTS', checkpoint_key) == 0 then is_whole = false end
if kept_from == 1 and is_whole then
  is_whole = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1)[1][1] == '1-0'
end
if not is_whole then
  for _, channel in ipairs({log_channel, inbox_channel}) do redis.pcall(publish_command, channel, 'damaged') end
  return {'damaged', tonumber(last_seq)}
end
local known_receipt, is_new = find_receipt(receipts_key, receipt_id, command_id, inbox_position, newest_receipt)
if known_receipt then return {'known', known_receipt} end
if not is_new then return {'receipts_missing'} end

if is_message then
  local queued_messages = tonumber(waiting) or 0
  if only_if_idle and (open_work == '1' or queued_messages > 0) then return {'busy'} end
  if queued_messages >= tonumber(message_limit) then return {'full', tonumber(message_limit)} end
end
-- A list of another type is found before anything is written.
redis.call('LLEN', receipt_order_key)
if redis.call('XLEN', inbox_key) >= tonumber(command_limit) then return {'full', tonumber(command_limit)} end

-- The entry comes first: if it is refused, nothing is written.
-- The position is the time: after a failover that has lost commands, another one must not get the position of a lost one.
local time = redis.call('TIME')
local position = string.format('%.0f', math.max((inbox_position or 0) + 1, time[1] * 1000000 + time[2]))
local message_flag = is_message and '1' or '0'
redis.call('XADD', inbox_key, position .. '-0', 'seq', last_seq, 'message', message_flag, 'command', command)
redis.call('HSET', meta_key, 'inbox', position)
redis.call('HINCRBY', meta_key, 'waiting', message_flag)
add_receipt(meta_key, receipts_key, receipt_order_key, receipt_id, last_seq, receipt, receipt_limit)
if session_ttl_ms then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, session_ttl_ms) end
end
-- A user without the right to this channel still gets its command: owners look for commands every few seconds.
redis.pcall(publish_command, inbox_channel, position)
return {'accepted', tonumber(last_seq)}
