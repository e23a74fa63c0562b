#!lua
-- Record what a discovery found about partitions, in one step: new ones are tracked (a partition that is tracked
-- already stays as it is), finished ones hold the watermark back no longer, tombstones are dropped.
-- Only the holder of the lease of discovering may do so: who was overtaken would bring back what others dropped.
--
-- Returns 1, or 0 when the lease is not ours any more
local leases      = key(1, 'hash', 'HGET HDEL')        -- partition -> "epoch|expires_ms|owner"
local checkpoints = key(2, 'hash', 'HEXISTS HSET HDEL') -- partition -> checkpoint
local watermarks  = key(3, 'hash', 'HSET HDEL')        -- partition -> ms
if checked() then return refused end
local leased, epoch, found, unwatched = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local FIRST_FOUND, FIELDS = 5, 3 -- partitions found, in threes: name, checkpoint, watermark (ms; '' = it has none)
local first_unwatched = FIRST_FOUND + FIELDS * found
local first_forgotten = first_unwatched + unwatched

if lease_of(leases, leased) ~= epoch then return 0 end
for i = FIRST_FOUND, first_unwatched - 1, FIELDS do
  local partition, checkpoint, watermark_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HEXISTS', checkpoints, partition) == 0 then
    if watermark_ms ~= '' then redis.call('HSET', watermarks, partition, watermark_ms) end
    redis.call('HSET', checkpoints, partition, checkpoint) -- last: without its watermark it would hold nobody back
  end
end
for i = first_unwatched, first_forgotten - 1 do
  redis.call('HDEL', watermarks, ARGV[i])
end
for i = first_forgotten, #ARGV do
  redis.call('HDEL', checkpoints, ARGV[i])
  redis.call('HDEL', leases, ARGV[i])
  redis.call('HDEL', watermarks, ARGV[i])
end
return 1
