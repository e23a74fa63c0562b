#!lua
-- Publish one batch of a partition in one step: fence, compare-and-set the checkpoint, append versions to
-- histories, put keys to work that are not, count. A lost reply, a crash or a second reader changes nothing twice.
--
-- KEYS  1 leases      hash    partition -> "epoch|expires_ms|owner"
--       2 checkpoints hash    partition -> position
--       3 history     hash    key -> history (core/codec.py)
--       4 work        stream  one entry a key: {k: key}
--       5 due         zset    key -> instant in ms; a key with a history is in `due` or in `work`, never both
--       6 ledger      hash    counters
--       7 keys-sampled  HyperLogLog of keys
--       8 meta        hash    watched_since_ms: when the latest partition began at LATEST
-- ARGV  1 partition  2 epoch  3 expected position  4 new position
--       5 inserts  6 modifies  7 removes  8 not sampled  9 look spacing ms  10 the same for alarmed keys
--       11 the changes, one after the other (little endian): length of the key (u16), created_ms (u64), before
--       digest (16), after digest (16), key
-- Returns {outcome, entries in work}
local records = tonumber(ARGV[5]) + tonumber(ARGV[6]) + tonumber(ARGV[7])
local current = redis.call('HGET', KEYS[2], ARGV[1])
if current == ARGV[4] then
  return {'duplicate', redis.call('XLEN', KEYS[4])}
end
local lease = redis.call('HGET', KEYS[1], ARGV[1])
local outcome = 'published'
if not lease or string.match(lease, '^(%d+)|') ~= ARGV[2] then
  outcome = 'fenced'
elseif current ~= ARGV[3] then
  outcome = 'conflict'
end
if outcome ~= 'published' then
  redis.call('HINCRBY', KEYS[6], 'records_repeated', records)
  return {outcome, redis.call('XLEN', KEYS[4])}
end

local UNKNOWN = string.rep('\255', 16)
local WAITING, SETTLING, ALARMED = 0, 1, 2
local SETTLE, INCOMPLETE = 2, 4
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function enqueue(key)
  redis.call('XADD', KEYS[4], '*', 'k', key)
end

local function begin(key, before, version)
  local lo, versions = 0, version
  if before ~= UNKNOWN then
    lo, versions = 1, before .. string.rep('\0', 8) .. version
  end
  redis.call('HSET', KEYS[3], key, string.char(FORMAT, WAITING, 0, 0, lo) .. string.rep('\0', 24) .. versions)
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
  if phase ~= WAITING and redis.call('ZSCORE', KEYS[5], key) then
    local watched = phase == ALARMED or phase == EXCUSED
    local spacing = watched and tonumber(ARGV[10]) or tonumber(ARGV[9])
    local at = struct.unpack('<I8', history, 22) + spacing
    if at <= now then
      redis.call('ZREM', KEYS[5], key)
      enqueue(key)
    else
      redis.call('ZADD', KEYS[5], 'LT', at, key)
    end
  end
  if phase == SETTLING then phase = WAITING end
  redis.call('HSET', KEYS[3], key, head .. string.char(phase, flags) .. rest .. version)
end

local fresh, published, changes, at = {}, 0, ARGV[11], 1
while at <= #changes do
  local length = struct.unpack('<I2', changes, at)
  local before = string.sub(changes, at + 10, at + 25)
  local version = string.sub(changes, at + 26, at + 41) .. string.sub(changes, at + 2, at + 9)
  local key = string.sub(changes, at + 42, at + 41 + length)
  at, published = at + 42 + length, published + 1
  local history = redis.call('HGET', KEYS[3], key)
  if history then
    append(key, history, before, version)
  else
    begin(key, before, version)
    fresh[#fresh + 1] = key
  end
end
for i = 1, #fresh, 1000 do -- in slices: unpack of a large table overflows the Lua stack
  redis.call('PFADD', KEYS[7], unpack(fresh, i, math.min(i + 999, #fresh)))
end

redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
local begun = tonumber(string.match(ARGV[4], '^latest|.*|(%d+)$') or 0)
if begun > tonumber(redis.call('HGET', KEYS[8], 'watched_since_ms') or 0) then
  redis.call('HSET', KEYS[8], 'watched_since_ms', begun)
end
local counts = {
  records_read = records, inserts = ARGV[5], modifies = ARGV[6], removes = ARGV[7], not_sampled = ARGV[8],
  versions_published = published, outstanding = published, keys_coalesced = published - #fresh,
}
for field, count in pairs(counts) do
  if tonumber(count) ~= 0 then redis.call('HINCRBY', KEYS[6], field, count) end
end
return {outcome, redis.call('XLEN', KEYS[4])}
