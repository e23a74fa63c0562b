#!lua flags=allow-oom
-- Record that changes are lost, once: whoever reports the same gap again changes nothing. Histories that span
-- this moment no longer vouch. Only the holder of a lease may report: who was overtaken knows nothing.
-- May run at maxmemory: a gap must not stay unsaid.
--
-- Returns 'published', 'duplicate' or 'fenced'
local leases = key(1, 'hash', 'HGET')           -- partition -> "epoch|expires_ms|owner"
local gaps   = key(2, 'hash', 'HSETNX')         -- gap -> when it was recorded (ms)
local ledger = key(3, 'hash', 'HMGET HINCRBY')
local meta   = key(4, 'hash', 'HSET')           -- gap_ms: the latest gap
if checked() then return refused end
local leased, epoch, gap = ARGV[1], ARGV[2], ARGV[3] -- a lease; of the gap, JSON of partition, reason, position
local now = string.format('%d', now_ms())

if not is_ours(leases, leased, epoch) then return 'fenced' end
countable(ledger, {'gaps'})
if redis.call('HSETNX', gaps, gap, now) == 0 then return 'duplicate' end
redis.call('HSET', meta, 'gap_ms', now)
redis.call('HINCRBY', ledger, 'gaps', 1)
return 'published'
