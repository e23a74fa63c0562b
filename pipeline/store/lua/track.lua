#!lua
-- Record what a discovery found about partitions, all of it or nothing: new ones are tracked (a partition that
-- is tracked already stays as it is), finished ones hold the watermark back no longer, tombstones are dropped.
-- Only the holder of the lease of discovering may do so: who was overtaken would bring back what others dropped.
--
-- Returns 1, or 0 when the lease is not ours any more
local leases      = key(1, 'hash', 'HGET HDEL')   -- partition -> "epoch|expires_ms|owner"
local checkpoints = key(2, 'hash', 'HEXISTS HSET HDEL') -- partition -> checkpoint
local watermarks  = key(3, 'hash', 'HSET HDEL')   -- partition -> ms
if checked() then return refused end
local leased, epoch = ARGV[1], ARGV[2]
local found_count, unwatched_count = tonumber(ARGV[3]), tonumber(ARGV[4])
-- The partitions: those found, in threes: name, checkpoint, watermark in ms ('' = it has none); then those unwatched;
-- then those to forget.
local first_found = 5
local first_unwatched = first_found + 3 * found_count
local first_forgotten = first_unwatched + unwatched_count

if not is_ours(leases, leased, epoch) then return 0 end
for i = first_found, first_unwatched - 1, 3 do
  local partition, checkpoint, watermark = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HEXISTS', checkpoints, partition) == 0 then
    if watermark ~= '' then redis.call('HSET', watermarks, partition, watermark) end
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
