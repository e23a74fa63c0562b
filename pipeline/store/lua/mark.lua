#!lua
-- Note that a milestone of the cutover is reached now; again: moves it.
--
-- Returns the instant in ms
local marks = key(1, 'hash', 'HSET') -- milestone -> when it was reached (ms)
if checked() then return refused end
local milestone, now = ARGV[1], now_ms()

redis.call('HSET', marks, milestone, string.format('%d', now))
return now
