-- Finds a write, and writes a mark behind it: WAIT and WAITAOF cover what their own connection has written last. A write that
-- a failover has lost is not found.
local last_seq, head = unpack(redis.call('HMGET', meta_key, 'last_seq', 'head'))
if not last_seq then return {'not_found'} end
if seq then
  if tonumber(last_seq) < tonumber(seq) then return {'lost'} end
  -- The chain value at the event: it is in the head, or in the event that follows.
  local head_seq, found_lineage = string.match(head or '', '^(%d+) (%x+)$')
  if head_seq ~= seq then
    found_lineage = nil
    for _, entry in ipairs(redis.call('XRANGE', log_key, '(' .. seq .. '-0', '+', 'COUNT', 1)) do
      local fields = entry[2]
      for i = 1, #fields, 2 do
        if fields[i] == 'p' and fields[i + 1] ~= '' then found_lineage = fields[i + 1] end
      end
    end
  end
  -- An older version writes no chain values: what is not known is no loss.
  if lineage and found_lineage and found_lineage ~= lineage then return {'lost'} end
end
-- Older versions kept receipts under the command id alone.
if receipt_id and not redis.call('HGET', receipts_key, receipt_id) and not redis.call('HGET', receipts_key, command_id) then
  return {'lost'}
end
redis.call('HINCRBY', meta_key, 'marks', 1)
return {'marked'}
