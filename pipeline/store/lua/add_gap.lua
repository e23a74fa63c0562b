#!lua flags=allow-oom
-- Record that changes are lost, once: whoever reports the same gap again changes nothing. Histories that span this
-- moment no longer vouch. Only the holder of a lease may report: who was overtaken knows nothing.
-- May run at maxmemory: a gap must not stay unsaid. It comes last: until it is there, this may be repeated.
--
-- Returns 'published', 'duplicate' or 'fenced'
local leases = key(1, 'hash', 'HGET')            -- partition -> "epoch|expires_ms|owner"
local gaps   = key(2, 'hash', 'HEXISTS HSET')    -- gap -> "recorded|from|to" (ms), see compare_take.lua
local ledger = key(3, 'hash', 'HMGET HINCRBY')
local meta   = key(4, 'hash', 'HGET HSET')
local watermarks = key(5, 'hash', 'HGET')        -- partition -> watermark (ms)
if checked() then return refused end
local leased, epoch = ARGV[1], ARGV[2]
local gap = ARGV[3] -- partition, reason and position, as store/messages.py writes them
local partition, until_ms = ARGV[4], ARGV[5] -- until_ms: what was written later is not lost; '0' = nobody knows
countable(ledger, {'gaps'})
local now = string.format('%d', now_ms())

if lease_of(leases, leased) ~= epoch then return 'fenced' end
if redis.call('HEXISTS', gaps, gap) == 1 then return 'duplicate' end
redis.call('HINCRBY', ledger, 'gaps', 1)
redis.call('HSET', meta, 'gap_ms', now)
-- What was written before the watermark has been read; of a partition without one, nobody knows.
local from = redis.call('HGET', watermarks, partition) or redis.call('HGET', meta, 'watermark_ms') or '0'
local to = tonumber(until_ms) > tonumber(from) and until_ms or now
redis.call('HSET', gaps, gap, string.format('%s|%s|%s', now, from, to))
return 'published'
