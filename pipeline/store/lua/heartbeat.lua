#!lua flags=allow-oom
-- Say that a reader is alive for a while; readers that did not say so any more are dropped.
--
-- KEYS  1 readers  sorted set: "<producer>:<reader>" -> alive until, ms
-- ARGV  1 producer  2 reader  3 how long, ms
-- Returns the number of readers of this producer that are alive
local readers = KEYS[1]
local prefix, reader, ttl_ms = ARGV[1] .. ':', ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

redis.call('ZADD', readers, now + ttl_ms, prefix .. reader)
redis.call('ZREMRANGEBYSCORE', readers, '-inf', now)
local alive = 0
for _, member in ipairs(redis.call('ZRANGE', readers, 0, -1)) do
  if string.sub(member, 1, #prefix) == prefix then alive = alive + 1 end
end
return alive
