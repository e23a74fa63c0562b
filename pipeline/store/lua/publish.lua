#!lua
-- Publish one batch of a partition in one step: fence, compare-and-set the checkpoint, append versions to
-- histories, put keys to work that are not, count. A lost reply, a crash or a second reader changes nothing twice.
-- All is checked and worked out before anything is written; the checkpoint comes last.
--
-- Returns {outcome, entries in work}
local leases       = key(1, 'hash', 'HGET')              -- partition -> "epoch|expires_ms|owner"
local checkpoints  = key(2, 'hash', 'HGET HSET')         -- partition -> checkpoint, which its producer alone reads
local histories    = key(3, 'hash', 'HGET HSET')         -- key -> history
local work         = key(4, 'stream', 'XADD XLEN')       -- one entry a key: {k: key}
local due          = key(5, 'zset', 'ZSCORE ZADD ZREM')  -- key -> when to look next (ms)
local ledger       = key(6, 'hash', 'HMGET HINCRBY')
local keys_sampled = key(7, 'string', 'PFADD')           -- HyperLogLog
local meta         = key(8, 'hash', 'HGET HSET')
if checked() then return refused end
local partition, epoch, expected, checkpoint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local records_read, not_sampled = tonumber(ARGV[5]), tonumber(ARGV[6])
local by_name = ARGV[7] -- records read: "name=number name=number …"
local watch_began_ms = tonumber(ARGV[8]) -- 0: this batch begins no watch
local look_spacing_ms, watched_spacing_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
-- The changes, one after the other (little endian): length of the key (u16), created_ms (u64), digest before (16),
-- digest after (16), key.
local changes = ARGV[11]
local now = now_ms()

local current = redis.call('HGET', checkpoints, partition)
if current == checkpoint then return {'duplicate', redis.call('XLEN', work)} end
local fenced = lease_of(leases, partition) ~= epoch
if fenced or current ~= expected then
  redis.call('HINCRBY', ledger, 'records_repeated', records_read)
  return {fenced and 'fenced' or 'conflict', redis.call('XLEN', work)}
end

-- The history of a key that had none.
local function begun(before, version)
  local lo, versions = 0, version
  if before ~= UNKNOWN then
    lo, versions = 1, before .. string.rep('\0', 8) .. version
  end
  return string.char(FORMAT, WAITING, 0, 0, lo) .. string.rep('\0', HEADER_BYTES - AT_LO) .. versions
end

local function appended(history, before, version)
  local phase, flags = string.byte(history, AT_PHASE), bit.bor(string.byte(history, AT_FLAGS), SETTLE)
  local last = string.sub(history, -VERSION_BYTES, DIGEST_BYTES - VERSION_BYTES - 1)
  local rest = string.sub(history, AT_KIND)
  if before ~= UNKNOWN and last == UNKNOWN then
    rest = string.sub(history, AT_KIND, -VERSION_BYTES - 1) .. before
      .. string.sub(history, DIGEST_BYTES - VERSION_BYTES)
  elseif before ~= UNKNOWN and before ~= last then
    flags = bit.bor(flags, INCOMPLETE) -- a version between the two was never published
  end
  if phase == SETTLING then phase = WAITING end
  return string.char(FORMAT, phase, flags) .. rest .. version
end

-- What the batch makes of each key's history, before anything is written.
local before_batch, after_batch, order, published, place = {}, {}, {}, 0, 1
while place <= #changes do
  local length = struct.unpack('<I2', changes, place)
  local created = string.sub(changes, place + 2, place + 9)
  local before = string.sub(changes, place + 10, place + 25)
  local after = string.sub(changes, place + 26, place + 41)
  local name = string.sub(changes, place + 42, place + 41 + length)
  place, published = place + 42 + length, published + 1
  local history = after_batch[name]
  if not history then
    history = redis.call('HGET', histories, name)
    if history and (#history < HEADER_BYTES + VERSION_BYTES or string.byte(history, AT_FORMAT) ~= FORMAT) then
      error({err = 'ERR ' .. histories .. ' holds something else than a history'})
    end
    before_batch[name] = history
    order[#order + 1] = name
  end
  after_batch[name] = history and appended(history, before, after .. created) or begun(before, after .. created)
end

local counts = {
  records_read = records_read, not_sampled = not_sampled, versions_published = published, outstanding = published,
  keys_coalesced = published,
}
for name, number in string.gmatch(by_name, '(%S+)=(%d+)') do
  counts['records:' .. name] = tonumber(number)
end
local fields = {}
for field in pairs(counts) do fields[#fields + 1] = field end
countable(ledger, fields)

-- A key with a history is in `due` or in `work`, never in both. One that waits for a recheck alone is looked at
-- earlier now, but not sooner after its last look than the spacing.
local function bring_forward(name, history)
  local phase = string.byte(history, AT_PHASE)
  if phase == WAITING or not redis.call('ZSCORE', due, name) then return end
  local spacing_ms = (phase == ALARMED or phase == EXCUSED) and watched_spacing_ms or look_spacing_ms
  local at_ms = struct.unpack('<I8', history, AT_LOOKED_MS) + spacing_ms
  if at_ms <= now then
    redis.call('XADD', work, '*', 'k', name)
    redis.call('ZREM', due, name)
  else
    redis.call('ZADD', due, 'LT', at_ms, name)
  end
end

local fresh = {}
for _, name in ipairs(order) do
  local history = before_batch[name]
  if history then
    bring_forward(name, history)
  else
    redis.call('XADD', work, '*', 'k', name)
    fresh[#fresh + 1] = name
  end
  redis.call('HSET', histories, name, after_batch[name])
end
in_slices(fresh, function(...) redis.call('PFADD', keys_sampled, ...) end)
counts.keys_coalesced = published - #fresh
for field, count in pairs(counts) do
  if count ~= 0 then redis.call('HINCRBY', ledger, field, count) end
end
if watch_began_ms > tonumber(redis.call('HGET', meta, 'watched_since_ms') or 0) then
  redis.call('HSET', meta, 'watched_since_ms', string.format('%d', watch_began_ms))
end
redis.call('HSET', checkpoints, partition, checkpoint)
return {'published', redis.call('XLEN', work)}
