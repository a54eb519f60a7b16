-- Returns those of the commands that the user may not run. Servers before Redis 7 cannot tell.
local missing = {}
if not redis.acl_check_cmd then return missing end
for _, command in ipairs(commands) do
  local is_known, is_allowed = pcall(redis.acl_check_cmd, command, any_key, any_key, any_key, any_key)
  if is_known and not is_allowed then missing[#missing + 1] = command end
end
return missing
