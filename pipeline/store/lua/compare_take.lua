#!lua flags=allow-oom
-- Take a partition of a comparison: one that was given back or whose comparer went silent (or was dated by a clock
-- that was wrong, and lasts for more than twice as long as one is taken for), else the next one. Who
-- finds all of them read and every suspect answered ends the comparison, which closes gaps of the stream.
-- Those that are sorted into buckets come first; nobody gets a bucket before all of them are done.
-- May run at maxmemory: a comparison that is read must come to its end.
--
-- Returns {'taken', ordinal, epoch}, or {'wait'} while others read the last ones (of a phase), {'settling'} while
-- suspects wait for their answers, {'finished'}, or {'gone'} when another comparison is there
local comparison = key(1, 'hash', 'HMGET HSET HINCRBY')
local leases     = key(2, 'hash', 'HGETALL HSET') -- ordinal -> "epoch|expires_ms|owner"
local ledger     = key(3, 'hash', 'HMGET')
local gaps       = key(4, 'hash', 'HGETALL HSET') -- gap -> "recorded|from|to" or "recorded|from|to|closed|by" (ms)
if checked() then return refused end
local id, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local SUMS = {'equal', 'different', 'source_only', 'target_only', 'source_items', 'target_items',
  'not_sampled_source', 'not_sampled_target'}
countable(comparison, {'next', 'epoch', 'planned', 'done', 'sorting', unpack(SUMS)})
countable(ledger, {'suspects_waiting', 'suspects_indeterminate', 'dead'})
local now = now_ms()

-- Whether everything was compared and judged: what was given up, or does not add up, closes nothing.
local function is_proven(before, kind)
  local given_up = redis.call('HMGET', ledger, 'suspects_indeterminate', 'dead')
  if (given_up[1] or '0') ~= before[1] or (given_up[2] or '0') ~= before[2] then return false end
  local sums = {}
  for i, value in ipairs(redis.call('HMGET', comparison, unpack(SUMS))) do sums[SUMS[i]] = tonumber(value or 0) end
  local both = sums.equal + sums.different
  if kind ~= 'changes' and both + sums.source_only + sums.target_only == 0 then return false end
  return sums.source_items == sums.not_sampled_source + both + sums.source_only
    and sums.target_items == sums.not_sampled_target + both + sums.target_only
end

local function close_gaps()
  local facts = redis.call('HMGET', comparison, 'closes_from', 'closes_to', 'closes_by', 'kind',
    'indeterminate_before', 'dead_before')
  if (facts[3] or '') == '' or not is_proven({facts[5], facts[6]}, facts[4]) then return end
  local found = redis.call('HGETALL', gaps)
  for i = 1, #found, 2 do
    -- One that is only dated, by an earlier version, has lost anything until then.
    local recorded, from, to, rest = string.match(found[i + 1], '^(%d+)|(%d+)|(%d+)(.*)$')
    if not recorded then recorded, from, to, rest = found[i + 1], '0', found[i + 1], '' end
    if rest == '' and tonumber(from) >= tonumber(facts[1]) and tonumber(to) <= tonumber(facts[2]) then
      redis.call('HSET', gaps, found[i], string.format('%s|%s|%s|%d|%s', recorded, from, to, now, facts[3]))
    end
  end
end

local facts = redis.call('HMGET', comparison, 'id', 'planned', 'next', 'done', 'finished_ms', 'sorting')
if facts[1] ~= id then return {'gone'} end
local planned, next_one, done = tonumber(facts[2]), tonumber(facts[3] or 0), tonumber(facts[4] or 0)
local sorting = tonumber(facts[6] or 0)
if facts[5] then return {'finished'} end
if done >= planned then
  if tonumber(redis.call('HMGET', ledger, 'suspects_waiting')[1] or 0) > 0 then return {'settling'} end
  close_gaps()
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
  if next_one >= planned or next_one >= sorting and done < sorting then return {'wait'} end
  ordinal = string.format('%d', next_one)
  redis.call('HINCRBY', comparison, 'next', 1)
end
local epoch = redis.call('HINCRBY', comparison, 'epoch', 1)
redis.call('HSET', leases, ordinal, string.format('%d|%d|%s', epoch, now + ttl_ms, owner))
return {'taken', tonumber(ordinal), epoch}
