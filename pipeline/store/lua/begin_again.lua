#!lua
-- Begin a migration whose state is gone, as it was begun: everything is read once more, and a gap tells it.
-- Of several that do so the one that has watched longest wins, so that they never undo each other's for ever.
-- `meta` comes last: while it is missing, whoever repeats this begins from nothing.
--
-- Returns 1, or 0 when there is a state to go on with
local meta   = key(1, 'hash', 'HMGET HSET DEL')
local work   = key(2, 'stream', 'EXISTS XGROUP DEL')
local ledger = key(3, 'hash', 'HINCRBY DEL')
local gaps   = key(4, 'hash', 'HSET DEL') -- gap -> "recorded|from|to" (ms)
for number = 5, #KEYS do key(number, nil, 'DEL') end -- everything else of the migration
if checked() then return refused end
local secret, started_ms, settings, format = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local gap, group, lowered = ARGV[5], ARGV[6], ARGV[7] -- lowered: the sample that was in use, '' = the whole one
local now = string.format('%d', now_ms())

local stored = redis.call('HMGET', meta, 'secret', 'started_ms')
local stored_secret, stored_started_ms = stored[1], stored[2]
if stored_secret and stored_started_ms and redis.call('EXISTS', work) == 1 then
  if stored_secret == secret or tonumber(stored_started_ms) <= tonumber(started_ms) then return 0 end
end
redis.call('DEL', unpack(KEYS))
redis.call('HSET', gaps, gap, string.format('%s|0|%s', now, now)) -- who knows since when
redis.call('HINCRBY', ledger, 'gaps', 1)
redis.call('XGROUP', 'CREATE', work, group, '0', 'MKSTREAM')
redis.call('HSET', meta, 'secret', secret, 'started_ms', started_ms, 'settings', settings, 'format', format,
  'begun_again_ms', now, 'gap_ms', now)
if lowered ~= '' then redis.call('HSET', meta, 'lowered', lowered) end
return 1
