#!lua
-- Begin a migration again whose state is gone, as it was begun: everything is read once more, and a gap tells it.
-- Of several that do so the one that has watched longest wins, so that they never undo each other's for ever.
--
-- KEYS  1 meta  2 work  3 ledger  4 gaps  5… everything else of the migration
-- ARGV  1 secret  2 started_ms  3 settings  4 now_ms  5 gap (see add_gap.lua)  6 group
-- Returns 1, or 0 when there is a state to go on with
local stored = redis.call('HMGET', KEYS[1], 'secret', 'started_ms')
if stored[1] and stored[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  if stored[1] == ARGV[1] or tonumber(stored[2]) <= tonumber(ARGV[2]) then return 0 end
end
redis.call('DEL', unpack(KEYS))
redis.call('HSET', KEYS[1], 'secret', ARGV[1], 'started_ms', ARGV[2], 'settings', ARGV[3],
  'begun_again_ms', ARGV[4], 'gap_ms', ARGV[4])
redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[6], '0', 'MKSTREAM')
redis.call('HSET', KEYS[4], ARGV[5], ARGV[4])
redis.call('HINCRBY', KEYS[3], 'gaps', 1)
return 1
