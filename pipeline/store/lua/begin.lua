#!lua flags=allow-oom
-- Begin a migration, or find it begun. `meta` comes last: while it is missing, whoever repeats this begins anew.
-- May run at maxmemory: a migration that is there must be found, or it could never be drained.
--
-- judged_by: the times that are judged by from now on, '' = as they were.
--
-- Returns `meta`, field by field, with the times as they were
local meta = key(1, 'hash', 'HEXISTS HGET HSET HGETALL HDEL')
local work = key(2, 'stream', 'EXISTS XGROUP')
if checked() then return refused end
local secret, settings, format, group, judged_by = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('EXISTS', work) == 0 then
  redis.call('XGROUP', 'CREATE', work, group, '0', 'MKSTREAM')
end
if redis.call('HEXISTS', meta, 'settings') == 0 then
  redis.call('HSET', meta, 'secret', secret, 'started_ms', string.format('%d', now_ms()), 'settings', settings,
    'format', format)
end
local found = redis.call('HGETALL', meta)
if judged_by ~= '' and redis.call('HGET', meta, 'settings') == settings then -- else the start is refused
  if redis.call('HGET', meta, 'judged_by') ~= judged_by then -- what followed the lag was made for other times
    redis.call('HDEL', meta, 'converge_within_ms', 'first_look_ms', 'adapted_ms', 'held')
  end
  redis.call('HSET', meta, 'judged_by', judged_by)
end
return found
