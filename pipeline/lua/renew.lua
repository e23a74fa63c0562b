#!lua flags=allow-oom
-- Renew one reader's leases, post how far each partition is read through, and take the minimum over all
-- partitions: every change written before it is published. A partition that nobody reads holds it back.
--
-- KEYS  1 leases  2 read-through  hash partition -> ms  3 meta
-- ARGV  1 owner  2 ttl ms  3… triples: partition, epoch, read_through_ms
-- Returns the partitions that are still ours
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = {}
for i = 3, #ARGV, 3 do
  local partition, epoch = ARGV[i], ARGV[i + 1]
  local lease = redis.call('HGET', KEYS[1], partition)
  if lease and string.match(lease, '^(%d+)|') == epoch then
    redis.call('HSET', KEYS[1], partition, string.format('%s|%d|%s', epoch, now + tonumber(ARGV[2]), ARGV[1]))
    local posted = redis.call('HGET', KEYS[2], partition)
    if posted and tonumber(ARGV[i + 2]) > tonumber(posted) then
      redis.call('HSET', KEYS[2], partition, ARGV[i + 2])
    end
    kept[#kept + 1] = partition
  end
end
local least
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
  local ms = tonumber(value)
  if not least or ms < least then least = ms end
end
if least then redis.call('HSET', KEYS[3], 'read_through_ms', string.format('%d', least)) end
return kept
