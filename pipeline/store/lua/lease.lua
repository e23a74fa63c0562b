#!lua
-- Take a partition's lease if nobody holds it, with a new fencing token (epoch); the holder itself gets it again.
--
-- KEYS  1 leases  2 meta
-- ARGV  1 the migration's secret  2 partition  3 owner  4 ttl ms
-- Returns the epoch, or 0 when somebody else holds it, or the error STATELOST
local leases, meta = KEYS[1], KEYS[2]
local secret, partition, owner, ttl_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('HGET', meta, 'secret') ~= secret then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease = redis.call('HGET', leases, partition)
if lease then
  local expires, holder = string.match(lease, '^%d+|(%d+)|(.*)$')
  if holder ~= owner and tonumber(expires) > now then return 0 end
end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', leases, partition, string.format('%d|%d|%s', epoch, now + ttl_ms, owner))
return epoch
