#!lua flags=allow-oom
-- Record that changes are lost, once: whoever reports the same gap again changes nothing. Histories that span this
-- moment no longer vouch. Only the holder of a lease may report: who was overtaken knows nothing.
-- May run at maxmemory: a gap must not stay unsaid. It comes last: until it is there, this may be repeated.
--
-- Returns 'published', 'duplicate' or 'fenced'
local leases = key(1, 'hash', 'HGET')            -- partition -> "epoch|expires_ms|owner"
local gaps   = key(2, 'hash', 'HEXISTS HSET')    -- gap -> when it was recorded (ms)
local ledger = key(3, 'hash', 'HMGET HINCRBY')
local meta   = key(4, 'hash', 'HSET')
if checked() then return refused end
local leased, epoch = ARGV[1], ARGV[2]
local gap = ARGV[3] -- partition, reason and position, as store/messages.py writes them
countable(ledger, {'gaps'})
local now = string.format('%d', now_ms())

if lease_of(leases, leased) ~= epoch then return 'fenced' end
if redis.call('HEXISTS', gaps, gap) == 1 then return 'duplicate' end
redis.call('HINCRBY', ledger, 'gaps', 1)
redis.call('HSET', meta, 'gap_ms', now)
redis.call('HSET', gaps, gap, now)
return 'published'
