-- Returns what changes when another server, with fewer of the newest writes, may have taken over: the history that a server
-- continued when it was promoted, or without an append-only file the id of its process, because a snapshot is older than what
-- the server had. nil if the user may not ask, or the server does not say.
local function server_identity(known)
  local function read_info(section, field)
    local info = redis.pcall('INFO', section)
    return type(info) == 'string' and string.match(info, field .. ':(%w+)') or nil
  end
  if read_info('persistence', 'aof_enabled') ~= '1' then return read_info('server', 'run_id') end
  local promoted_from = read_info('replication', 'master_replid2')
  -- Zeros: it never was promoted, or so long ago that it has forgotten.
  if promoted_from and string.match(promoted_from, '^0+$') then return known or '0' end
  return promoted_from
end
