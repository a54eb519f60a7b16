-- Returns whether a log has as many entries as its last commit left there. An older version does not record that: what is recorded
-- is then of other seqs.
local function has_all_entries(log_key, oldest_seq, last_seq, log_extent)
  local from, to, length = string.match(log_extent or '', '^(%d+) (%d+) (%d+)$')
  return from ~= oldest_seq or to ~= last_seq or redis.call('XLEN', log_key) == tonumber(length)
end
