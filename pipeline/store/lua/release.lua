#!lua flags=allow-oom
-- Give a lease back at once, if it is still ours. The epoch stays: were it to go back, whoever holds the lease by
-- then would be fenced off. An expiry of 0 frees it.
--
-- Returns 1, or 0 when the lease is not ours any more
local leases = key(1, 'hash', 'HGET HSET') -- partition -> "epoch|expires_ms|owner"
if checked() then return refused end
local partition, epoch, owner = ARGV[1], ARGV[2], ARGV[3]

if lease_of(leases, partition) ~= epoch then return 0 end
redis.call('HSET', leases, partition, epoch .. '|0|' .. owner)
return 1
