-- Returns the receipt of a command that was accepted before, and whether a command without a receipt is certainly new.
local function find_receipt(receipts_key, receipt_id, command_id, inbox_position, newest_receipt)
  -- Older versions kept receipts under the command id alone.
  local known_receipt = redis.call('HGET', receipts_key, receipt_id) or redis.call('HGET', receipts_key, command_id)
  -- Without its receipt, a command that is sent again would be handled again.
  -- Receipts without the newest one are those of a backup.
  local was_used = (tonumber(inbox_position) or 0) > 0
  local has_receipts = redis.call('EXISTS', receipts_key) == 1
  if newest_receipt then has_receipts = redis.call('HGET', receipts_key, newest_receipt) end
  return known_receipt, has_receipts or not was_used
end
