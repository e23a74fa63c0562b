#!lua
-- Begin a comparison, or go on with the one that is there. A finished one of the table makes room for one of changes
-- and is kept, as it is what vouches for the table; one of the table replaces both.
-- `comparison` comes last: while it is missing, whoever repeats this begins anew.
--
-- Returns `comparison`, field by field
local comparison = key(1, 'hash', 'HMGET HSET HGETALL DEL')
local leases     = key(2, 'hash', 'DEL')
local read       = key(3, 'string', 'DEL')
local ledger     = key(4, 'hash', 'HMGET')
local sorted     = key(5, 'hash', 'DEL')      -- see compare_finish.lua
local of_table   = key(6, 'hash', 'HSET DEL') -- the finished comparison of the table, while one of changes is there
if checked() then return refused end
local id, settings, planned = ARGV[1], ARGV[2], ARGV[3]
local mode = ARGV[4] -- 'begin': one that is finished gives way; 'join': none does; 'restart': each does
local sorting = ARGV[5] -- so many partitions come first, and the others wait for them
local kind = ARGV[6]    -- 'table' or 'changes'
-- The window within which gaps are closed (ms), and who closes them; to '' = until now; by '' = none is closed.
local closes_from, closes_to, closes_by = ARGV[7], ARGV[8], ARGV[9]

local found = redis.call('HMGET', comparison, 'id', 'finished_ms', 'epoch', 'kind')
local before = redis.call('HMGET', ledger, 'suspects_indeterminate', 'dead')
local goes_on = found[1] and (mode == 'join' or mode == 'begin' and not found[2])
if not goes_on then
  if kind == 'table' then
    redis.call('DEL', of_table)
  elseif found[2] and found[4] ~= 'changes' then
    local fields = redis.call('HGETALL', comparison)
    redis.call('DEL', of_table)
    redis.call('HSET', of_table, unpack(fields))
  end
  redis.call('DEL', leases, read, sorted)
  redis.call('DEL', comparison)
  redis.call('HSET', comparison, 'id', id, 'settings', settings, 'planned', planned,
    'started_ms', string.format('%d', now_ms()), 'epoch', found[3] or '0', 'sorting', sorting, 'kind', kind,
    'closes_from', closes_from, 'closes_to', closes_to ~= '' and closes_to or string.format('%d', now_ms()),
    'closes_by', closes_by, 'dead_before', before[2] or '0', 'indeterminate_before', before[1] or '0')
end
return redis.call('HGETALL', comparison)
