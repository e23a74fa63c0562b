#!lua flags=allow-oom
-- A reader is alive for another while; those that were not heard of are forgotten.
-- May run at maxmemory: readers that vanish there would give up their partitions.
--
-- Returns how many readers of this producer are alive
local readers = key(1, 'zset', 'ZADD ZREMRANGEBYSCORE ZRANGE') -- "<producer>:<reader>" -> alive until (ms)
if checked() then return refused end
local prefix, reader, ttl_ms = ARGV[1] .. ':', ARGV[2], tonumber(ARGV[3])
local now = now_ms()

redis.call('ZADD', readers, now + ttl_ms, prefix .. reader)
redis.call('ZREMRANGEBYSCORE', readers, '-inf', now)
redis.call('ZREMRANGEBYSCORE', readers, '(' .. now + 2 * ttl_ms, '+inf') -- dated by a clock that was wrong
local alive = 0
for _, member in ipairs(redis.call('ZRANGE', readers, 0, -1)) do
  if string.sub(member, 1, #prefix) == prefix then alive = alive + 1 end
end
return alive
