#!lua
-- Give a lease back at once, if it is still ours. The epoch stays: it must not go back, or whoever holds the
-- lease by then would be fenced off. An expiry of 0 frees it.
--
-- KEYS  1 leases
-- ARGV  1 partition  2 epoch  3 owner
-- Returns 1, or 0 when the lease is not ours any more
local leases = KEYS[1]
local partition, epoch, owner = ARGV[1], ARGV[2], ARGV[3]

local lease = redis.call('HGET', leases, partition)
if not lease or string.match(lease, '^(%d+)|') ~= epoch then return 0 end
redis.call('HSET', leases, partition, epoch .. '|0|' .. owner)
return 1
