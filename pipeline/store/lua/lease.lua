#!lua
-- Take a partition's lease if nobody holds it, with a new fencing token (epoch); the holder itself gets it again.
--
-- KEYS  1 leases  2 meta
-- ARGV  1 the migration's secret  2 partition  3 owner  4 ttl ms
-- Returns the epoch, or 0 when somebody else holds it, or the error STATELOST
if redis.call('HGET', KEYS[2], 'secret') ~= ARGV[1] then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease = redis.call('HGET', KEYS[1], ARGV[2])
if lease then
  local epoch, expires, owner = string.match(lease, '^(%d+)|(%d+)|(.*)$')
  if owner ~= ARGV[3] and tonumber(expires) > now then return 0 end
end
local epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('HSET', KEYS[1], ARGV[2], string.format('%d|%d|%s', epoch, now + tonumber(ARGV[4]), ARGV[3]))
return epoch
