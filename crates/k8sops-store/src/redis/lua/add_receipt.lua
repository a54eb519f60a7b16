-- Writes the receipt of a command that is accepted at a seq, and drops the oldest one if there are too many.
local function add_receipt(meta_key, receipts_key, receipt_order_key, receipt_id, seq, receipt, receipt_limit)
  redis.call('HSET', meta_key, 'newest_receipt', receipt_id)
  redis.call('HSET', receipts_key, receipt_id, seq .. ' ' .. receipt)
  if redis.call('RPUSH', receipt_order_key, receipt_id) > tonumber(receipt_limit) then
    redis.call('HDEL', receipts_key, redis.call('LPOP', receipt_order_key))
  end
end
