#!lua
-- Begin a comparison, or go on with the one that is there.
-- `comparison` comes last: while it is missing, whoever repeats this begins anew.
--
-- Returns `comparison`, field by field
local comparison = key(1, 'hash', 'HMGET HSET HGETALL DEL')
local leases     = key(2, 'hash', 'DEL')
local read       = key(3, 'string', 'DEL')
local ledger     = key(4, 'hash', 'HMGET')
if checked() then return refused end
local id, settings, planned = ARGV[1], ARGV[2], ARGV[3]
local mode = ARGV[4] -- 'begin': one that is finished gives way; 'join': none does; 'restart': each does

local found = redis.call('HMGET', comparison, 'id', 'finished_ms', 'epoch')
local goes_on = found[1] and (mode == 'join' or mode == 'begin' and not found[2])
if not goes_on then
  redis.call('DEL', leases, read)
  redis.call('DEL', comparison)
  redis.call('HSET', comparison, 'id', id, 'settings', settings, 'planned', planned,
    'started_ms', string.format('%d', now_ms()), 'epoch', found[3] or '0',
    'indeterminate_before', redis.call('HMGET', ledger, 'suspects_indeterminate')[1] or '0')
end
return redis.call('HGETALL', comparison)
