#!lua
-- Take a partition's lease if nobody holds it, with a new fencing token (epoch); the holder itself gets it again.
--
-- Returns the epoch, or 0 when somebody else holds it, or the error STATELOST
local leases = key(1, 'hash', 'HGET HSET')     -- partition -> "epoch|expires_ms|owner"
local meta   = key(2, 'hash', 'HGET HINCRBY')  -- secret, epoch
if checked() then return refused end
local secret, partition, owner, ttl_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()

if redis.call('HGET', meta, 'secret') ~= secret then return state_lost() end
local lease = redis.call('HGET', leases, partition)
if lease then
  local expires, holder = string.match(lease, '^%d+|(%d+)|(.*)$')
  if holder ~= owner and tonumber(expires) > now then return 0 end
end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', leases, partition, string.format('%d|%d|%s', epoch, now + ttl_ms, owner))
return epoch
