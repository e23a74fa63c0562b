#!lua flags=allow-oom
-- Count what one partition of a comparison held, once, and give its lease up. The mark that it is read comes last but
-- for the lease: nothing in between can fail, as all is checked first. Of a partition that was sorted into buckets it is
-- noted whose part was counted: that one is joined, and no other.
-- May run at maxmemory: what is read must be counted.
--
-- Returns 'published', 'duplicate' (it was counted before) or 'fenced'
local comparison = key(1, 'hash', 'HMGET HINCRBY')
local leases     = key(2, 'hash', 'HGET HDEL')        -- ordinal -> "epoch|expires_ms|owner"
local read       = key(3, 'string', 'GETBIT SETBIT') -- bit n: partition n is counted
local sorted     = key(4, 'hash', 'HSET')             -- ordinal of what was sorted -> epoch of who was counted
if checked() then return refused end
local id, ordinal, epoch = ARGV[1], ARGV[2], ARGV[3]
local counts, fields = {}, {'done'} -- ARGV[4]: "name=number name=number …"
for field, number in string.gmatch(ARGV[4], '(%S+)=(%d+)') do
  counts[#counts + 1] = {field, number}
  fields[#fields + 1] = field
end
countable(comparison, fields)

local facts = redis.call('HMGET', comparison, 'id', 'sorting')
if facts[1] ~= id then return 'fenced' end
if redis.call('GETBIT', read, ordinal) == 1 then return 'duplicate' end
if lease_of(leases, ordinal) ~= epoch then return 'fenced' end
for _, count in ipairs(counts) do
  if count[2] ~= '0' then redis.call('HINCRBY', comparison, count[1], count[2]) end
end
redis.call('HINCRBY', comparison, 'done', 1)
if tonumber(ordinal) < tonumber(facts[2] or 0) then redis.call('HSET', sorted, ordinal, epoch) end
redis.call('SETBIT', read, ordinal, 1)
redis.call('HDEL', leases, ordinal)
return 'published'
