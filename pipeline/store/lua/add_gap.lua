#!lua flags=allow-oom
-- Record that changes are lost, once: whoever reports the same gap again changes nothing. Histories that span
-- this moment no longer vouch. Only the holder of a lease may report: who was overtaken knows nothing.
-- May run at maxmemory: a gap must not stay unsaid.
--
-- KEYS  1 leases  2 gaps  hash: gap -> when it was recorded, ms  3 ledger  4 meta
-- ARGV  1 name of the lease  2 its epoch  3 gap: JSON of partition, reason, position
-- Returns 'published', 'duplicate' or 'fenced'
local leases, gaps, ledger, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leased, epoch, gap = ARGV[1], ARGV[2], ARGV[3]

local lease = redis.call('HGET', leases, leased)
if not lease or string.match(lease, '^(%d+)|') ~= epoch then return 'fenced' end
local clock = redis.call('TIME')
local now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
if redis.call('HSETNX', gaps, gap, now) == 0 then return 'duplicate' end
redis.call('HINCRBY', ledger, 'gaps', 1)
redis.call('HSET', meta, 'gap_ms', now)
return 'published'
