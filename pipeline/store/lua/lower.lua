#!lua flags=allow-oom
-- Lower the sample, or raise it again, if it still is as the caller knows it: of several that want to, one does.
-- From then on distinct keys are counted anew, in keys that are named after the new sample; the old counts go.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns 1 if it was done
local meta         = key(1, 'hash', 'HMGET HSET')
local keys_sampled = key(2, 'string', 'DEL') -- HyperLogLogs of the sample until now
local keys_judged  = key(3, 'string', 'DEL')
if checked() then return refused end
local known, lowered = ARGV[1], ARGV[2]

local stored = redis.call('HMGET', meta, 'settings', 'lowered')
if not stored[1] or (stored[2] or '') ~= known then return 0 end
redis.call('HSET', meta, 'lowered', lowered)
redis.call('DEL', keys_sampled, keys_judged)
return 1
