#!lua flags=allow-oom
-- Renew one reader's leases, post how far each partition is read through, and take the minimum over all
-- partitions: every change written before it is published. A partition that nobody reads holds it back.
-- A watermark holds for the checkpoint it was reached with: where the stored one is another (a Redis that came
-- back older), it is not posted, and the reader is told.
--
-- KEYS  1 leases  2 watermarks  hash partition -> ms  3 meta  4 checkpoints  5 work
-- ARGV  1 the migration's secret  2 owner  3 ttl ms  4… fours: partition, epoch, checkpoint, watermark_ms
-- Returns {partition still ours, 1 = its checkpoint is the one given, …}, or the error STATELOST
if redis.call('HGET', KEYS[3], 'secret') ~= ARGV[1] or redis.call('EXISTS', KEYS[5]) == 0 then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = {}
for i = 4, #ARGV, 4 do
  local partition, epoch = ARGV[i], ARGV[i + 1]
  local lease = redis.call('HGET', KEYS[1], partition)
  if lease and string.match(lease, '^(%d+)|') == epoch then
    redis.call('HSET', KEYS[1], partition, string.format('%s|%d|%s', epoch, now + tonumber(ARGV[3]), ARGV[2]))
    local same = redis.call('HGET', KEYS[4], partition) == ARGV[i + 2]
    local posted = redis.call('HGET', KEYS[2], partition)
    if same and posted and tonumber(ARGV[i + 3]) > tonumber(posted) then
      redis.call('HSET', KEYS[2], partition, ARGV[i + 3])
    end
    kept[#kept + 1] = partition
    kept[#kept + 1] = same and 1 or 0
  end
end
local least
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
  local ms = tonumber(value)
  if not least or ms < least then least = ms end
end
if least then redis.call('HSET', KEYS[3], 'watermark_ms', string.format('%d', least)) end
return kept
