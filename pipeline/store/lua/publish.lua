#!lua
-- Publish one batch of a partition in one step: fence, compare-and-set the checkpoint, append versions to
-- histories, put keys to work that are not, count. A lost reply, a crash or a second reader changes nothing twice.
-- What will be written is worked out before anything is: each history is read once and written once, however
-- often its key changed, and is never longer than a look would leave it.
--
-- Returns {outcome, entries in work}
local leases       = key(1, 'hash', 'HGET')           -- partition -> "epoch|expires_ms|owner"
local checkpoints  = key(2, 'hash', 'HGET HSET')      -- partition -> checkpoint: only its producer reads it
local histories    = key(3, 'hash', 'HGET HSET')      -- key -> history
local work         = key(4, 'stream', 'XADD XLEN')    -- one entry a key: {k: key}
local due          = key(5, 'zset', 'ZSCORE ZADD ZREM') -- key -> instant in ms; a key is in `due` or in `work`
local ledger       = key(6, 'hash', 'HMGET HINCRBY')
local keys_sampled = key(7, 'string', 'PFADD')        -- HyperLogLog
local meta         = key(8, 'hash', 'HGET HSET')      -- watched_since_ms: when the latest watch began
if checked() then return refused end
local partition, epoch, expected, checkpoint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local records_read, not_sampled = tonumber(ARGV[5]), tonumber(ARGV[6])
local by_name = ARGV[7] -- records by name: "name=number name=number …"
local watch_began_ms = tonumber(ARGV[8]) -- when this batch began a watch; 0 = it began none
local look_spacing_ms, alarmed_spacing_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
local max_versions = tonumber(ARGV[11]) -- that are not reached
-- The changes, one after the other (little endian): length of the key (u16), created_ms (u64), digest before (16),
-- digest after (16), key
local changes = ARGV[12]
local now = now_ms()

local current = redis.call('HGET', checkpoints, partition)
if current == checkpoint then
  return {'duplicate', redis.call('XLEN', work)}
end
local outcome = 'published'
if not is_ours(leases, partition, epoch) then
  outcome = 'fenced'
elseif current ~= expected then
  outcome = 'conflict'
end
if outcome ~= 'published' then
  redis.call('HINCRBY', ledger, 'records_repeated', records_read)
  return {outcome, redis.call('XLEN', work)}
end

-- A history while the batch is put into it. bytes: as it is stored, '' = there is none (or nothing that could be
-- read). last: digest of the newest version; added: the versions of this batch.
local function loaded(name)
  local bytes = redis.call('HGET', histories, name) or ''
  if #bytes < HEADER_BYTES + VERSION_BYTES then return {name = name, bytes = '', added = {}} end
  return {
    name = name, bytes = bytes, last = string.sub(bytes, -VERSION_BYTES, -VERSION_BYTES + DIGEST_BYTES - 1),
    phase = string.byte(bytes, AT_PHASE), flags = string.byte(bytes, AT_FLAGS), added = {},
  }
end

-- One change, `before` → `after`, into its key's history. For example, of one key:
--   1. 12:00:00  ABSENT → a   No history: versions ABSENT, a. What it replaced is known and no change of ours, so
--                             it counts as reached (lo = 1).
--   2. 12:00:01  a → b        It replaced what we have as the last one: nothing is missing. Versions ABSENT a b.
--   3. 12:00:02  (a look finds b: everything is reached, SETTLING, the next look is due at 12:00:32)
--   4. 12:00:04  b → c        Versions ABSENT a b c. WAITING again, but a settling look is owed (SETTLE), and it is
--                             not waited for: the last look was at 12:00:02, looks are 1 s apart, so the key is due
--                             since 12:00:03. Out of `due`, into `work`.
--   5. 12:00:05  e → f        It replaced e, but the last one we have is c: c → e was never published. The history
--                             is INCOMPLETE: it can no longer vouch for what the key was.
--   6. 12:00:06  ? → ?        The stream does not show it (UNKNOWN): nothing is concluded. Versions … f ?.
--   7. 12:00:07  g → h        This one tells what ? was: versions … f g h.
local function append(one, before, after, created)
  local added = one.added
  if not one.last then
    if before ~= UNKNOWN then added[1] = before .. string.rep('\0', 8) end
    one.phase, one.flags, one.fresh, one.lo = WAITING, 0, true, #added
  else
    one.flags = bit.bor(one.flags, SETTLE)
    if before ~= UNKNOWN and one.last == UNKNOWN then
      if #added > 0 then
        added[#added] = before .. string.sub(added[#added], -8)
      else
        one.bytes = string.sub(one.bytes, 1, -VERSION_BYTES - 1) .. before .. string.sub(one.bytes, -8)
      end
    elseif before ~= UNKNOWN and before ~= one.last then
      one.flags = bit.bor(one.flags, INCOMPLETE)
    end
  end
  added[#added + 1] = after .. created
  one.last = after
end

-- The history's bytes with what was added.
local function joined(one)
  if one.bytes == '' then
    return string.char(FORMAT, WAITING, one.flags, 0, one.lo) .. string.rep('\0', HEADER_BYTES - 5)
      .. table.concat(one.added)
  end
  local phase = one.phase == SETTLING and WAITING or one.phase
  return string.sub(one.bytes, 1, AT_FORMAT) .. string.char(phase, one.flags)
    .. string.sub(one.bytes, AT_KIND) .. table.concat(one.added)
end

-- What `thin` of core/judging/history.py does at a look, done here too: validators may be away for hours.
local function thinned(bytes)
  local flags, lo = string.byte(bytes, AT_FLAGS), string.byte(bytes, AT_LO)
  local head_bytes = HEADER_BYTES + (bit.band(flags, HELD) ~= 0 and HELD_BYTES or 0)
  local unreached = (#bytes - head_bytes) / VERSION_BYTES - lo
  if unreached <= max_versions then return bytes end
  local kept = math.floor(max_versions / 2)
  local removed = unreached - 1 - kept
  local oldest = head_bytes + lo * VERSION_BYTES -- where the oldest that is not reached begins
  return string.sub(bytes, 1, AT_PHASE) .. string.char(bit.bor(flags, INCOMPLETE))
    .. string.sub(bytes, AT_KIND, AT_FIRST - 1)
    .. struct.pack('<I4', struct.unpack('<I4', bytes, AT_FIRST) + removed)
    .. string.sub(bytes, AT_ALARMED, AT_SKIPPED - 1)
    .. struct.pack('<I4', struct.unpack('<I4', bytes, AT_SKIPPED) + removed)
    .. string.sub(bytes, AT_LATE, oldest)
    .. UNKNOWN .. string.sub(bytes, oldest + DIGEST_BYTES + 1, oldest + VERSION_BYTES)
    .. string.sub(bytes, -kept * VERSION_BYTES)
end

-- When to look at a key next that waits in `due`; nil: it does not wait there, or its time stands.
local function next_look(one)
  if one.phase == WAITING or not redis.call('ZSCORE', due, one.name) then return nil end
  local spacing_ms = one.phase == ALARMED and alarmed_spacing_ms or look_spacing_ms
  return struct.unpack('<I8', one.bytes, AT_LOOKED_MS) + spacing_ms
end

local changed, by_key, fresh, published, place = {}, {}, {}, 0, 1
while place <= #changes do
  local length = struct.unpack('<I2', changes, place)
  local created = string.sub(changes, place + 2, place + 9)
  local before = string.sub(changes, place + 10, place + 25)
  local after = string.sub(changes, place + 26, place + 41)
  local name = string.sub(changes, place + 42, place + 41 + length)
  place, published = place + 42 + length, published + 1
  local one = by_key[name]
  if not one then
    one = loaded(name)
    by_key[name] = one
    changed[#changed + 1] = one
  end
  append(one, before, after, created)
end
for _, one in ipairs(changed) do
  if one.fresh then
    fresh[#fresh + 1] = one.name
  else
    one.next_ms = next_look(one)
  end
  one.bytes = thinned(joined(one))
end
local watched_since_ms = tonumber(redis.call('HGET', meta, 'watched_since_ms') or 0)
local counts = {
  records_read = records_read, not_sampled = not_sampled,
  versions_published = published, outstanding = published, keys_coalesced = published - #fresh,
}
for name, number in string.gmatch(by_name, '(%S+)=(%d+)') do
  counts['records:' .. name] = tonumber(number)
end
local fields = {}
for field in pairs(counts) do fields[#fields + 1] = field end
countable(ledger, fields)

in_slices(fresh, function(...) redis.call('PFADD', keys_sampled, ...) end)
for _, one in ipairs(changed) do
  redis.call('HSET', histories, one.name, one.bytes)
  if one.fresh or one.next_ms and one.next_ms <= now then
    redis.call('XADD', work, '*', 'k', one.name)
    if not one.fresh then redis.call('ZREM', due, one.name) end
  elseif one.next_ms then
    redis.call('ZADD', due, 'LT', one.next_ms, one.name)
  end
end
redis.call('HSET', checkpoints, partition, checkpoint)
if watch_began_ms > watched_since_ms then
  redis.call('HSET', meta, 'watched_since_ms', string.format('%d', watch_began_ms))
end
for field, count in pairs(counts) do
  if count ~= 0 then redis.call('HINCRBY', ledger, field, count) end
end
return {outcome, redis.call('XLEN', work)}
