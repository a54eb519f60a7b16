-- Writes the receipts of a session whose receipts are gone or older ones, the newest last.
local newest_receipt = redis.call('HGET', meta_key, 'newest_receipt')
local has_receipts = redis.call('EXISTS', receipts_key) == 1
if newest_receipt and has_receipts then has_receipts = redis.call('HGET', receipts_key, newest_receipt) end
if has_receipts then return end
redis.call('DEL', receipts_key, receipt_order_key)
redis.call('HDEL', meta_key, 'newest_receipt')
-- A field that is no receipt: a hash without fields does not exist.
redis.call('HSET', receipts_key, '', '')
for _, receipt in ipairs(receipts) do
  redis.call('HSET', receipts_key, receipt.id, receipt.value)
  redis.call('RPUSH', receipt_order_key, receipt.id)
end
if session_ttl_ms then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, session_ttl_ms) end
end
