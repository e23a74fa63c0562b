#!lua flags=allow-oom
-- Keep a comparer's partitions for another while; for no time: give them back, at once.
-- May run at maxmemory: partitions that run out there would be read twice.
--
-- Returns the ordinals that are still ours
local comparison = key(1, 'hash', 'HMGET')
local leases     = key(2, 'hash', 'HGET HSET') -- ordinal -> "epoch|expires_ms|owner"
if checked() then return refused end
local id, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIRST, FIELDS = 4, 2 -- the partitions, in twos: ordinal, epoch
local expires_ms = ttl_ms > 0 and now_ms() + ttl_ms or 0

local kept = {}
if redis.call('HMGET', comparison, 'id')[1] ~= id then return kept end
for i = FIRST, #ARGV, FIELDS do
  local ordinal, epoch = ARGV[i], ARGV[i + 1]
  if lease_of(leases, ordinal) == epoch then
    redis.call('HSET', leases, ordinal, string.format('%s|%d|%s', epoch, expires_ms, owner))
    kept[#kept + 1] = tonumber(ordinal)
  end
end
return kept
