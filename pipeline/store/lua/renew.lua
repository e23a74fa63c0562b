#!lua flags=allow-oom
-- Renew one reader's leases, post its partitions' watermarks, and take the minimum over all partitions: every
-- change written before it is published. A partition that nobody reads holds it back; one that has no watermark
-- does not.
-- A watermark holds for the checkpoint it was reached with: where the stored one is another (a Redis that came
-- back older), it is not posted, and the answer says so.
-- May run at maxmemory: the leases would run out there.
--
-- Returns {partition still ours, 1 = its checkpoint is the one given, …}, or the error STATELOST
local leases      = key(1, 'hash', 'HGET HSET')       -- partition -> "epoch|expires_ms|owner"
local watermarks  = key(2, 'hash', 'HGET HSET HVALS') -- partition -> ms
local meta        = key(3, 'hash', 'HGET HSET')       -- secret, watermark_ms
local checkpoints = key(4, 'hash', 'HGET')            -- partition -> checkpoint
local work        = key(5, 'stream', 'EXISTS')
if checked() then return refused end
local secret, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first_partition = 4 -- in fours: partition, epoch, checkpoint, watermark in ms
local now = now_ms()

if redis.call('HGET', meta, 'secret') ~= secret or redis.call('EXISTS', work) == 0 then return state_lost() end
local kept = {}
for i = first_partition, #ARGV, 4 do
  local partition, epoch, checkpoint, watermark = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if is_ours(leases, partition, epoch) then
    redis.call('HSET', leases, partition, string.format('%s|%d|%s', epoch, now + ttl_ms, owner))
    local same = redis.call('HGET', checkpoints, partition) == checkpoint
    local posted = redis.call('HGET', watermarks, partition)
    if same and posted and tonumber(watermark) > tonumber(posted) then
      redis.call('HSET', watermarks, partition, watermark)
    end
    kept[#kept + 1] = partition
    kept[#kept + 1] = same and 1 or 0
  end
end
local least
for _, value in ipairs(redis.call('HVALS', watermarks)) do
  local ms = tonumber(value)
  if not least or ms < least then least = ms end
end
if least then redis.call('HSET', meta, 'watermark_ms', string.format('%d', least)) end
return kept
