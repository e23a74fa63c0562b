#!lua flags=allow-oom
-- A reader is alive for another while; those that were not heard of are forgotten.
-- May run at maxmemory: readers that vanish there would give up their partitions.
--
-- Returns how many readers are alive
local readers = key(1, 'zset', 'ZADD ZREMRANGEBYSCORE ZCARD') -- reader -> alive until (ms)
if checked() then return refused end
local reader, ttl_ms = ARGV[1], tonumber(ARGV[2])
local now = now_ms()

redis.call('ZADD', readers, now + ttl_ms, reader)
redis.call('ZREMRANGEBYSCORE', readers, '-inf', now)
return redis.call('ZCARD', readers)
