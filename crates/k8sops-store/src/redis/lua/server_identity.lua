-- Returns the history of the server, which changes when another server with fewer of the newest writes has taken over, and its
-- process. Both are nil if the user may not ask, or the server does not say.
local function server_identity(known_history)
  local function read_info(section, field)
    local info = redis.pcall('INFO', section)
    return type(info) == 'string' and string.match(info, field .. ':(%w+)') or nil
  end
  local process = read_info('server', 'run_id')
  -- Without an append-only file, each start is from a snapshot, which is older than what the server had.
  if read_info('persistence', 'aof_enabled') ~= '1' then return process, process end
  local promoted_from = read_info('replication', 'master_replid2')
  -- Zeros: it never was promoted, or so long ago that it has forgotten.
  if promoted_from and string.match(promoted_from, '^0+$') then promoted_from = known_history or '0' end
  return promoted_from, process
end
