#!lua flags=allow-oom
-- Keep the deadline that follows the lag, if the migration has begun and nobody has made a newer one.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns 1 if it was kept
local meta = key(1, 'hash', 'HGET HEXISTS HSET') -- adapted_ms: when it was made
if checked() then return refused end
local converge_within_ms, first_look_ms, adapted_ms = ARGV[1], ARGV[2], ARGV[3]
local held = ARGV[4] -- JSON: [[deadline_ms, until_ms], …]

if redis.call('HEXISTS', meta, 'settings') == 0 then return 0 end
if tonumber(redis.call('HGET', meta, 'adapted_ms') or 0) >= tonumber(adapted_ms) then return 0 end
redis.call('HSET', meta, 'converge_within_ms', converge_within_ms, 'first_look_ms', first_look_ms,
  'adapted_ms', adapted_ms, 'held', held)
return 1
