#!lua flags=allow-oom
-- Count what a process has asked AWS since it last said so, in all and by the minute. May count twice when a reply is
-- lost: it is what is shown of the cost, and no verdict depends on it. May run at maxmemory, or nobody would know how
-- far the sample is lowered.
--
-- Returns the lowered sample as it is stored (core/budget.py), '' = it is not lowered
local cost   = key(1, 'hash', 'HMGET HINCRBY')        -- "<side>:<operation>:requests" or ":half_units" -> number
local minute = key(2, 'hash', 'HMGET HINCRBY EXPIRE') -- the same, of this minute
local meta   = key(3, 'hash', 'HGET')
if checked() then return refused end
local kept_seconds = ARGV[1]
local fields = {}
for i = 2, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
countable(cost, fields)
countable(minute, fields)

if redis.call('HGET', meta, 'settings') then -- a state that was lost is begun again first
  for i = 2, #ARGV, 2 do
    redis.call('HINCRBY', cost, ARGV[i], ARGV[i + 1])
    redis.call('HINCRBY', minute, ARGV[i], ARGV[i + 1])
  end
  if #fields > 0 then redis.call('EXPIRE', minute, kept_seconds) end
end
return redis.call('HGET', meta, 'lowered') or ''
