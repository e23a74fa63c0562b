#!lua flags=allow-oom
-- Keep how far the state's clock is from TIME (clock.py). May run at maxmemory: it is a few bytes, and read by all.
-- Where TIME went back, a pending entry would be young for as long: its idle time begins anew.
--
-- Returns 1, or 0 when somebody else has kept another distance
local clock = key(1, 'hash', 'HGET HSET HMGET HINCRBY') -- distance_ms, steps
local work  = key(2, 'stream', 'EXISTS XPENDING XCLAIM')
if checked() then return refused end
local before, distance, step, group = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local MOST_PENDING = 100000
countable(clock, {'steps'})

if (redis.call('HGET', clock, 'distance_ms') or '') ~= before then return 0 end
redis.call('HSET', clock, 'distance_ms', distance)
if not step then return 1 end
redis.call('HINCRBY', clock, 'steps', 1)
if tonumber(distance) > tonumber(before) and redis.call('EXISTS', work) == 1 then
  for _, pending in ipairs(redis.call('XPENDING', work, group, '-', '+', MOST_PENDING)) do
    local id, consumer = pending[1], pending[2]
    redis.call('XCLAIM', work, group, consumer, 0, id, 'IDLE', 0, 'JUSTID')
  end
end
return 1
