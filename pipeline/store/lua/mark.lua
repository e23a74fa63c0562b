#!lua
-- Note that a milestone of the cutover is reached now; again: moves it.
--
-- Returns the instant in ms, and that at which it was marked before, 0 = it was not
local marks = key(1, 'hash', 'HGET HSET') -- milestone -> when it was reached (ms)
if checked() then return refused end
local milestone, now = ARGV[1], now_ms()

local before = redis.call('HGET', marks, milestone)
redis.call('HSET', marks, milestone, string.format('%d', now))
return {now, tonumber(before or 0)}
