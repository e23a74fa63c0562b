#!lua
-- Publish one batch of a partition in one step: fence, compare-and-set the checkpoint, append versions to
-- histories, put keys to work that are not, count. A lost reply, a crash or a second reader changes nothing twice.
-- All is checked and worked out before anything is written; the checkpoint comes last. Each history is read once
-- and written once, however often its key changed, and is never longer than a look would leave it.
--
-- Returns {outcome, keys in work, changes left out}
local leases       = key(1, 'hash', 'HGET')           -- partition -> "epoch|expires_ms|owner"
local checkpoints  = key(2, 'hash', 'HGET HSET')      -- partition -> checkpoint: only its producer reads it
local histories    = key(3, 'hash', 'HMGET HSET')     -- key -> history
local work         = key(4, 'stream', 'XADD')         -- entries that are due: {e: number, t: since when (ms)}
local due          = key(5, 'zset', 'ZSCORE ZADD ZREM') -- number of an entry -> when to look next (ms)
local ledger       = key(6, 'hash', 'HMGET HINCRBY')
local keys_sampled = key(7, 'string', 'PFADD')        -- HyperLogLog of the sample in use
local meta         = key(8, 'hash', 'HMGET HSET HINCRBY') -- watched_since_ms: when the latest watch began; first_look_ms;
                                                      -- lowered; entry: the last number; queued: keys in work
local dead         = key(9, 'stream', 'XADD')         -- dead letters
local entries      = key(10, 'hash', 'HSET HDEL')     -- number -> the keys of the entry
local left         = key(11, 'hash', 'HMGET HSET HDEL') -- number, of those in `due` -> how many stand in it still
local findings     = key(12, 'hash', 'HMGET')         -- key -> JSON
if checked() then return refused end
local partition, epoch, expected, checkpoint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local records_read, not_sampled = tonumber(ARGV[5]), tonumber(ARGV[6])
local by_name = ARGV[7] -- records by name: "name=number name=number …"
local watch_began_ms = tonumber(ARGV[8]) -- when this batch began a watch; 0 = it began none
local look_spacing_ms, watched_spacing_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
local max_versions = tonumber(ARGV[11]) -- that are not reached
-- The changes, one after the other (little endian): digest before (16), digest after (16), created_ms (u64), 1 = the
-- key is not of the lowered sample (u8), length of the key (u16), key.
local changes = ARGV[12]
local lowered = ARGV[13] -- the lowered sample as the caller knows it (core/budget.py), '' = it is not
local now = now_ms()

local told = redis.call('HMGET', meta, 'watched_since_ms', 'first_look_ms', 'queued', 'lowered')
local watched_since_ms, first_look_ms, queued = tonumber(told[1] or 0), tonumber(told[2] or 0), tonumber(told[3] or 0)
local current = redis.call('HGET', checkpoints, partition)
if current == checkpoint then return {'duplicate', queued, 0} end
local fenced = lease_of(leases, partition) ~= epoch
if fenced or current ~= expected then
  redis.call('HINCRBY', ledger, 'records_repeated', records_read)
  return {fenced and 'fenced' or 'conflict', queued, 0}
end

-- The changes in order: what each replaced, and the version that it made. Of each key `first` holds the first one,
-- `following` of each change the next one of the same key.
local before_of, version_of, published = {}, {}, 0
local names, first, following, newest, beyond, keys = {}, {}, {}, {}, {}, 0
local place, unpacked, is_beyond, name = 1, struct.unpack
while place <= #changes do
  published = published + 1
  before_of[published], version_of[published], is_beyond, name, place = unpacked('<c16c24BI2c0', changes, place)
  local earlier = newest[name]
  if earlier then
    following[earlier] = published
  else
    keys = keys + 1
    names[keys], first[keys] = name, published
    if is_beyond == 1 then beyond[#beyond + 1] = keys end
  end
  newest[name] = published
end
local old = values_of(histories, names)

-- A key beyond the lowered sample is followed until its history, and its finding, are closed. Who does not know how
-- the sample was lowered, or raised again, leaves nothing out. Returns how many changes are left out.
local function leave_out()
  local unknown, places, gone, count = {}, {}, {}, 0
  for _, at in ipairs(beyond) do
    if not old[at] then unknown[#unknown + 1], places[#places + 1] = names[at], at end
  end
  for nth, finding in ipairs(values_of(findings, unknown)) do
    if not finding then gone[places[nth]] = true end
  end
  local kept_names, kept_first, kept_old = {}, {}, {}
  for at, one in ipairs(names) do
    if not gone[at] then
      kept_names[#kept_names + 1] = one
      kept_first[#kept_names], kept_old[#kept_names] = first[at], old[at]
    else
      local change = first[at]
      while change do
        count, change = count + 1, following[change]
      end
    end
  end
  names, first, old = kept_names, kept_first, kept_old
  return count
end

local left_out = #beyond > 0 and lowered ~= '' and told[4] == lowered and leave_out() or 0
published, not_sampled = published - left_out, not_sampled + left_out

-- What a key's changes of this batch, `change` and those following it, add to versions whose newest has the digest
-- `last`. Returns the bytes to append, what `last` was if they tell it, whether a version is missing.
--
-- Together with `begun` and `extended` this is what happens to one key, for example:
--   1. 12:00:00  ABSENT → a   No history. What it replaced is known, and no change of ours made it: it counts as
--                             reached (lo = 1). Versions ABSENT a.
--   2. 12:00:01  a → b        It replaced the last one that we have: nothing is missing. Versions ABSENT a b.
--   3. 12:00:02  (a look finds b: everything is reached, SETTLING, the next look is due at 12:00:32)
--   4. 12:00:03  b → c        Versions ABSENT a b c. WAITING again, but a settling look is owed (SETTLE). The key is
--                             brought forward from 12:00:32 to 1 s after its last look, which is 12:00:03: out of
--                             `due`, into `work`.
--   5. 12:00:04  e → f        It replaced e, but the last one that we have is c: c → e was never published. Versions
--                             … c f, INCOMPLETE: this history no longer vouches for what the key was.
--   6. 12:00:05  ? → ?        The stream does not show it (UNKNOWN): nothing is concluded. Versions … f ?.
--   7. 12:00:06  g → h        This one tells what ? was. Versions … f g h.
local function added(change, last)
  local told_before, missing, versions = nil, false, {}
  while change do
    local replaced = before_of[change]
    if replaced ~= UNKNOWN and replaced ~= last then
      if last ~= UNKNOWN then
        missing = true
      elseif #versions == 0 then
        told_before = replaced
      else
        versions[#versions] = replaced .. sub(versions[#versions], DIGEST_BYTES + 1)
      end
    end
    versions[#versions + 1] = version_of[change]
    last = sub(version_of[change], 1, DIGEST_BYTES)
    change = following[change]
  end
  return table.concat(versions), told_before, missing
end

-- What `thin` of core/judging/history.py does at a look, done here as well: validators may be away for hours.
-- Histories longer than that would cost every later change of the key, which writes the history anew.
local function thinned(bytes)
  local flags, lo = string.byte(bytes, AT_FLAGS), string.byte(bytes, AT_LO)
  local head_bytes = HEADER_BYTES + (bit.band(flags, EXCUSE) ~= 0 and EXCUSE_BYTES or 0)
    + (bit.band(flags, HELD) ~= 0 and HELD_BYTES or 0)
  local unreached = (#bytes - head_bytes) / VERSION_BYTES - lo
  if unreached <= max_versions then return bytes end
  local kept = math.floor(max_versions / 2)
  local removed = unreached - 1 - kept
  local oldest = head_bytes + lo * VERSION_BYTES -- the oldest version that is not reached begins behind it
  return string.sub(bytes, 1, AT_PHASE) .. string.char(bit.bor(flags, INCOMPLETE))
    .. string.sub(bytes, AT_KIND, AT_FIRST - 1)
    .. struct.pack('<I4', struct.unpack('<I4', bytes, AT_FIRST) + removed)
    .. string.sub(bytes, AT_ALARMED, AT_SKIPPED - 1)
    .. struct.pack('<I4', struct.unpack('<I4', bytes, AT_SKIPPED) + removed)
    .. string.sub(bytes, AT_LATE, oldest)
    .. UNKNOWN .. string.sub(bytes, oldest + DIGEST_BYTES + 1, oldest + VERSION_BYTES)
    .. string.sub(bytes, -kept * VERSION_BYTES)
end

-- The history of a key that had none and stands in this entry.
local NOTHING_LOOKED = string.rep('\0', HEADER_BYTES - AT_LO)
local BEGUN = string.char(FORMAT, WAITING, 0, 0, 1) .. NOTHING_LOOKED
local UNDATED = string.rep('\0', VERSION_BYTES - DIGEST_BYTES)
local function begun(change, number)
  local replaced, version = before_of[change], version_of[change]
  local next_change = following[change]
  if not next_change and replaced ~= UNKNOWN then return number .. BEGUN .. replaced .. UNDATED .. version end
  local flags, lo, first_version, more = 0, 0, '', ''
  if replaced ~= UNKNOWN then lo, first_version = 1, replaced .. UNDATED end
  if next_change then
    local last, told_before, missing = sub(version, 1, DIGEST_BYTES)
    more, told_before, missing = added(next_change, last)
    version = (told_before or last) .. sub(version, DIGEST_BYTES + 1)
    flags = SETTLE + UNSEEN + (missing and INCOMPLETE or 0)
  end
  return thinned(number .. string.char(FORMAT, WAITING, flags, 0, lo) .. NOTHING_LOOKED .. first_version .. version .. more)
end

-- A history of a key that stands in this entry now, with the changes added.
local function extended(bytes, change, number)
  local phase, flags = byte(bytes, AT_PHASE, AT_FLAGS)
  flags = bit.bor(flags, SETTLE, UNSEEN)
  local last = sub(bytes, -VERSION_BYTES, DIGEST_BYTES - VERSION_BYTES - 1)
  local versions, told_before, missing = added(change, last)
  if told_before then
    versions = told_before .. sub(bytes, DIGEST_BYTES - VERSION_BYTES) .. versions
    bytes = sub(bytes, 1, -VERSION_BYTES - 1)
  end
  if missing then flags = bit.bor(flags, INCOMPLETE) end
  flags = bit.band(flags, bit.bnot(SUSPECT)) -- from now on the stream shows how the key goes on
  if phase == SETTLING then phase = WAITING end
  return thinned(number .. string.char(FORMAT, phase, flags) .. sub(bytes, AT_KIND) .. versions)
end

-- False in `old`, from now on: the key had no history, or one that is damaged: with that nothing can be said of it, but
-- the change that comes now can be watched.
local fresh, begins, damaged = {}, 0, {}
local taken_over, found = 0, 0 -- suspects of a comparison that wait, and those under an open finding
for at = 1, #names do
  local bytes = old[at]
  if not bytes or not is_history(bytes) then
    begins = begins + 1
    fresh[begins] = names[at]
    if bytes then
      damaged[#damaged + 1] = {names[at], bytes}
      old[at] = false
    end
  else
    local phase, flags = byte(bytes, AT_PHASE, AT_FLAGS)
    if bit.band(flags, SUSPECT) ~= 0 then
      if phase == WAITING then taken_over = taken_over + 1 end
      if phase == ALARMED then found = found + 1 end
    end
  end
end
local counts = {
  records_read = records_read, not_sampled = not_sampled, versions_published = published, outstanding = published,
  keys_coalesced = published - begins, suspects_waiting = -taken_over,
  suspects_taken_over = taken_over, suspects_open = -found,
}
for name, number in string.gmatch(by_name, '(%S+)=(%d+)') do
  counts['records:' .. name] = tonumber(number)
end
local fields = {'dead_entries:poison'}
for field in pairs(counts) do fields[#fields + 1] = field end
countable(ledger, fields)
countable(meta, {'entry', 'queued'})

-- When a key is worth a first look: at once, or where the lag is known (core/adaptive.py), when half of the changes
-- have come through, but for one key in 32.
local function worth_from_ms(name, change)
  if first_look_ms == 0 or tonumber(sub(redis.sha1hex(name), 1, 2), 16) < 8 then return 0 end
  return struct.unpack('<I8', version_of[change], DIGEST_BYTES + 1) + first_look_ms
end

-- The entries of keys that wait for another look than a recheck alone, as far as they are in `due`.
local function find_waiting()
  local numbers, known = {}, {}
  for at = 1, #names do
    local bytes = old[at]
    local number = bytes and byte(bytes, AT_PHASE) ~= WAITING and number_of(bytes)
    if number and not known[number] then
      numbers[#numbers + 1], known[number] = number, true
    end
  end
  return still_waiting(left, numbers)
end
local waiting, departed = find_waiting(), {}

local groups = {}
local due_ms = {}
-- A key with a history stands in one entry, in `due` or in `work`. One that waits for a recheck alone is looked at
-- earlier now, but not sooner after its last look than the spacing.
local function bring_forward(at, bytes)
  local phase, number = byte(bytes, AT_PHASE), number_of(bytes)
  if phase == WAITING or not waiting[number] then return end
  local spacing_ms = (phase == ALARMED or phase == EXCUSED) and watched_spacing_ms or look_spacing_ms
  local at_ms = math.max(struct.unpack('<I8', bytes, AT_LOOKED_MS) + spacing_ms, worth_from_ms(names[at], first[at]))
  if at_ms > now then
    at_ms = due_together(at_ms)
    due_ms[number] = due_ms[number] or tonumber(redis.call('ZSCORE', due, number) or math.huge)
    if at_ms >= due_ms[number] then return end
  end
  departed[number] = (departed[number] or 0) + 1
  look_together(groups, at, at_ms > now and at_ms or 'at once')
end

local spoiled = {} -- names of those that are damaged: they are looked at at once
for _, one in ipairs(damaged) do spoiled[one[1]] = true end
local at_once, many = {}, 0
for at = 1, #names do
  if not old[at] then
    local at_ms = first_look_ms > 0 and not spoiled[names[at]] and worth_from_ms(names[at], first[at]) or 0
    if at_ms > now then
      look_together(groups, at, due_together(at_ms))
    else
      many = many + 1
      at_once[many] = at
    end
  end
end
if many > 0 then groups['at once'] = at_once end
for at = 1, #names do
  if old[at] then bring_forward(at, old[at]) end
end
local made, number = numbered(meta, groups, names)
for _, one in ipairs(damaged) do bury_damaged(dead, ledger, one[1], one[2]) end
local stored = {}
for at = 1, #names do
  local bytes = old[at]
  stored[2 * at - 1] = names[at]
  stored[2 * at] = bytes and extended(bytes, first[at], number[at] or number_of(bytes)) or begun(first[at], number[at])
end
call_with_all('HSET', histories, stored)
local at = {work = work, due = due, entries = entries, left = left}
depart(at, waiting, departed)
local at_work = written(at, made, string.format('%d', now))
if at_work > 0 then queued = redis.call('HINCRBY', meta, 'queued', at_work) end
call_with_all('PFADD', keys_sampled, fresh)
for field, count in pairs(counts) do
  if count ~= 0 then redis.call('HINCRBY', ledger, field, count) end
end
if watch_began_ms > watched_since_ms then
  redis.call('HSET', meta, 'watched_since_ms', string.format('%d', watch_began_ms))
end
redis.call('HSET', checkpoints, partition, checkpoint)
return {'published', queued, left_out}
