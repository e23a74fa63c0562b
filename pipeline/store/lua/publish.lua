#!lua
-- Publish one batch of a partition in one step: fence, compare-and-set the checkpoint, append versions to
-- histories, put keys to work that are not, count. A lost reply, a crash or a second reader changes nothing twice.
--
-- KEYS  1 leases      hash    partition -> "epoch|expires_ms|owner"
--       2 checkpoints hash    partition -> checkpoint: compared whole, only its producer reads it
--       3 history     hash    key -> history (store/codec.py)
--       4 work        stream  one entry a key: {k: key}
--       5 due         zset    key -> instant in ms; a key with a history is in `due` or in `work`, never both
--       6 ledger      hash    counters
--       7 keys-sampled  HyperLogLog of keys
--       8 meta        hash    watched_since_ms: when the latest partition began its watch
-- ARGV  1 partition  2 epoch  3 expected checkpoint  4 new checkpoint
--       5 records read  6 not sampled  7 records by name: "name=number name=number …"
--       8 when this batch began a watch, ms (0 = it began none)  9 look spacing ms  10 the same for alarmed keys
--       11 the changes, one after the other (little endian): length of the key (u16), created_ms (u64), before
--       digest (16), after digest (16), key
-- Returns {outcome, entries in work}
local leases, checkpoints, histories, work, due = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ledger, keys_sampled, meta = KEYS[6], KEYS[7], KEYS[8]
local partition, epoch, expected, checkpoint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local records_read, not_sampled, by_name = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local watch_began_ms, look_spacing_ms, alarmed_spacing_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local changes = ARGV[11]

local current = redis.call('HGET', checkpoints, partition)
if current == checkpoint then
  return {'duplicate', redis.call('XLEN', work)}
end
local lease = redis.call('HGET', leases, partition)
local outcome = 'published'
if not lease or string.match(lease, '^(%d+)|') ~= epoch then
  outcome = 'fenced'
elseif current ~= expected then
  outcome = 'conflict'
end
if outcome ~= 'published' then
  redis.call('HINCRBY', ledger, 'records_repeated', records_read)
  return {outcome, redis.call('XLEN', work)}
end

local UNKNOWN = string.rep('\255', 16)
local WAITING, SETTLING, ALARMED = 0, 1, 2
local SETTLE, INCOMPLETE = 2, 4
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function enqueue(key)
  redis.call('XADD', work, '*', 'k', key)
end

local function begin(key, before, version)
  local lo, versions = 0, version
  if before ~= UNKNOWN then
    lo, versions = 1, before .. string.rep('\0', 8) .. version
  end
  redis.call('HSET', histories, key, string.char(1, WAITING, 0, 0, lo) .. string.rep('\0', 24) .. versions)
  enqueue(key)
end

local function append(key, history, before, version)
  local phase, flags = string.byte(history, 2), bit.bor(string.byte(history, 3), SETTLE)
  local last = string.sub(history, -24, -9)
  local head, rest = string.sub(history, 1, 1), string.sub(history, 4)
  if before ~= UNKNOWN and last == UNKNOWN then
    rest = string.sub(history, 4, -25) .. before .. string.sub(history, -8)
  elseif before ~= UNKNOWN and before ~= last then
    flags = bit.bor(flags, INCOMPLETE) -- a version between the two was never published
  end
  if phase ~= WAITING and redis.call('ZSCORE', due, key) then
    local spacing = phase == ALARMED and alarmed_spacing_ms or look_spacing_ms
    local at = struct.unpack('<I8', history, 22) + spacing
    if at <= now then
      redis.call('ZREM', due, key)
      enqueue(key)
    else
      redis.call('ZADD', due, 'LT', at, key)
    end
  end
  if phase == SETTLING then phase = WAITING end
  redis.call('HSET', histories, key, head .. string.char(phase, flags) .. rest .. version)
end

local fresh, published, at = {}, 0, 1
while at <= #changes do
  local length = struct.unpack('<I2', changes, at)
  local before = string.sub(changes, at + 10, at + 25)
  local version = string.sub(changes, at + 26, at + 41) .. string.sub(changes, at + 2, at + 9)
  local key = string.sub(changes, at + 42, at + 41 + length)
  at, published = at + 42 + length, published + 1
  local history = redis.call('HGET', histories, key)
  if history then
    append(key, history, before, version)
  else
    begin(key, before, version)
    fresh[#fresh + 1] = key
  end
end
for i = 1, #fresh, 1000 do -- in slices: unpack of a large table overflows the Lua stack
  redis.call('PFADD', keys_sampled, unpack(fresh, i, math.min(i + 999, #fresh)))
end

redis.call('HSET', checkpoints, partition, checkpoint)
if watch_began_ms > tonumber(redis.call('HGET', meta, 'watched_since_ms') or 0) then
  redis.call('HSET', meta, 'watched_since_ms', string.format('%d', watch_began_ms))
end
local counts = {
  records_read = records_read, not_sampled = not_sampled,
  versions_published = published, outstanding = published, keys_coalesced = published - #fresh,
}
for name, number in string.gmatch(by_name, '(%S+)=(%d+)') do
  counts['records:' .. name] = tonumber(number)
end
for field, count in pairs(counts) do
  if count ~= 0 then redis.call('HINCRBY', ledger, field, count) end
end
return {outcome, redis.call('XLEN', work)}
