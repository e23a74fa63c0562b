#!lua flags=allow-oom
-- Take a partition of a comparison: one that was given back or whose comparer went silent (or was dated by a clock
-- that was wrong, and lasts for more than twice as long as one is taken for), else the next one. Who
-- finds all of them read and every suspect answered ends the comparison.
-- May run at maxmemory: a comparison that is read must come to its end.
--
-- Returns {'taken', ordinal, epoch}, or {'wait'} while others read the last ones, {'settling'} while suspects wait for
-- their answers, {'finished'}, or {'gone'} when another comparison is there
local comparison = key(1, 'hash', 'HMGET HSET HINCRBY')
local leases     = key(2, 'hash', 'HGETALL HSET') -- ordinal -> "epoch|expires_ms|owner"
local ledger     = key(3, 'hash', 'HMGET')
if checked() then return refused end
local id, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
countable(comparison, {'next', 'epoch', 'planned', 'done'})
countable(ledger, {'suspects_waiting'})
local now = now_ms()

local facts = redis.call('HMGET', comparison, 'id', 'planned', 'next', 'done', 'finished_ms')
if facts[1] ~= id then return {'gone'} end
local planned, next_one, done = tonumber(facts[2]), tonumber(facts[3] or 0), tonumber(facts[4] or 0)
if facts[5] then return {'finished'} end
if done >= planned then
  if tonumber(redis.call('HMGET', ledger, 'suspects_waiting')[1] or 0) > 0 then return {'settling'} end
  redis.call('HSET', comparison, 'finished_ms', string.format('%d', now))
  return {'finished'}
end

local ordinal
local held = redis.call('HGETALL', leases)
for i = 1, #held, 2 do
  local expires_ms = tonumber(string.match(held[i + 1], '^%d+|(%d+)|'))
  if expires_ms <= now or expires_ms > now + 2 * ttl_ms then ordinal = held[i] break end
end
if not ordinal then
  if next_one >= planned then return {'wait'} end
  ordinal = string.format('%d', next_one)
  redis.call('HINCRBY', comparison, 'next', 1)
end
local epoch = redis.call('HINCRBY', comparison, 'epoch', 1)
redis.call('HSET', leases, ordinal, string.format('%d|%d|%s', epoch, now + ttl_ms, owner))
return {'taken', tonumber(ordinal), epoch}
