#!lua
-- Record what a discovery found about partitions, all of it or nothing: new ones are tracked (a partition that
-- is tracked already stays as it is), finished ones hold the watermark back no longer, tombstones are dropped.
-- Only the holder of the lease of discovering may do so: who was overtaken would bring back what others dropped.
--
-- KEYS  1 leases  2 checkpoints  3 watermarks
-- ARGV  1 name of the lease  2 its epoch  3 number of partitions found  4 number of those unwatched
--       5… found, in threes: partition, checkpoint, watermark in ms ('' = it has none); then unwatched partitions;
--       then partitions to forget
-- Returns 1, or 0 when the lease is not ours any more
local leases, checkpoints, watermarks = KEYS[1], KEYS[2], KEYS[3]
local leased, epoch = ARGV[1], ARGV[2]
local first_found = 5
local first_unwatched = first_found + 3 * tonumber(ARGV[3])
local first_forgotten = first_unwatched + tonumber(ARGV[4])

local lease = redis.call('HGET', leases, leased)
if not lease or string.match(lease, '^(%d+)|') ~= epoch then return 0 end
for i = first_found, first_unwatched - 1, 3 do
  local partition, checkpoint, watermark = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HSETNX', checkpoints, partition, checkpoint) == 1 and watermark ~= '' then
    redis.call('HSET', watermarks, partition, watermark)
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
