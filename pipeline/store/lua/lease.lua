#!lua flags=allow-oom
-- Take a partition's lease if nobody holds it, with a new fencing token (epoch); the holder itself gets it again.
-- May run at maxmemory: without a reader alive no finding is opened, and a full Redis would not drain.
-- One that lasts for more than twice as long as one is given for was dated by a clock that was wrong: nobody holds it.
--
-- Returns the epoch, or 0 when somebody else holds it, or the error STATELOST
local leases = key(1, 'hash', 'HGET HSET') -- partition -> "epoch|expires_ms|owner"
local meta   = key(2, 'hash', 'HGET HMGET HINCRBY')
if checked() then return refused end
local secret, partition, owner, ttl_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
countable(meta, {'epoch'})
local now = now_ms()

if redis.call('HGET', meta, 'secret') ~= secret then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local _, expires_ms, holder = lease_of(leases, partition)
if holder and holder ~= owner and expires_ms > now and expires_ms <= now + 2 * ttl_ms then return 0 end
local epoch = redis.call('HINCRBY', meta, 'epoch', 1)
redis.call('HSET', leases, partition, string.format('%d|%d|%s', epoch, now + ttl_ms, owner))
return epoch
