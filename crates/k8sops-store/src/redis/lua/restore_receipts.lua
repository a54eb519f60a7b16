-- Writes the receipts of a session whose receipts are gone, the newest last.
if redis.call('EXISTS', receipts_key) == 1 then return end
redis.call('DEL', receipt_order_key)
-- A field that is no receipt: a hash without fields does not exist.
redis.call('HSET', receipts_key, '', '')
for _, receipt in ipairs(receipts) do
  redis.call('HSET', receipts_key, receipt.id, receipt.value)
  redis.call('RPUSH', receipt_order_key, receipt.id)
end
if session_ttl_ms then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, session_ttl_ms) end
end
