#!lua flags=allow-oom
-- Renew one reader's leases, post its partitions' watermarks, and take the minimum over all partitions: every
-- change written before it is published. A partition that nobody reads holds it back; one that has no watermark
-- does not.
-- A watermark holds for the checkpoint it was reached with: where the stored one is another (a Redis that came
-- back older), it is not posted, and the answer says so.
--
-- KEYS  1 leases  2 watermarks  hash: partition -> ms  3 meta  4 checkpoints  5 work
-- ARGV  1 the migration's secret  2 owner  3 ttl ms  4… in fours: partition, epoch, checkpoint, watermark in ms
-- Returns {partition still ours, 1 = its checkpoint is the one given, …}, or the error STATELOST
local leases, watermarks, meta, checkpoints, work = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local secret, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('HGET', meta, 'secret') ~= secret or redis.call('EXISTS', work) == 0 then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = {}
for i = 4, #ARGV, 4 do
  local partition, epoch, checkpoint, watermark = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local lease = redis.call('HGET', leases, partition)
  if lease and string.match(lease, '^(%d+)|') == epoch then
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
