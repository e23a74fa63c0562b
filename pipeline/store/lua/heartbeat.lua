#!lua flags=allow-oom
-- A reader, or a validator, is alive for another while; those that were not heard of are forgotten.
-- May run at maxmemory: readers that vanish there would give up their partitions.
--
-- Returns how many of its group are alive
local beating = key(1, 'zset', 'ZADD ZREMRANGEBYSCORE ZRANGE') -- "<group>:<name>" -> alive until (ms)
if checked() then return refused end
local prefix, name, ttl_ms = ARGV[1] .. ':', ARGV[2], tonumber(ARGV[3])
local now = now_ms()

redis.call('ZADD', beating, now + ttl_ms, prefix .. name)
redis.call('ZREMRANGEBYSCORE', beating, '-inf', now)
redis.call('ZREMRANGEBYSCORE', beating, '(' .. now + 2 * ttl_ms, '+inf') -- dated by a clock that was wrong
local alive = 0
for _, member in ipairs(redis.call('ZRANGE', beating, 0, -1)) do
  if string.sub(member, 1, #prefix) == prefix then alive = alive + 1 end
end
return alive
