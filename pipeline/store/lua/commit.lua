#!lua flags=allow-oom
-- Commit what validators found, entry by entry, each only if its history is unchanged and its entry is still
-- pending: new history, due time, finding, counters, gone from the work stream. Otherwise nothing of it.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns three lists; an entry goes by its position (1 = the first):
--   refused:  {entry, its history now, …}
--   lost:     {entry, …}: no longer pending, or of another key: another validator's to commit
--   findings: {entry, since when it is or was open (ms), the finding before ('' = none), …}, for every entry whose
--             finding was opened, rewritten or closed
local work         = key(1, 'stream', 'XRANGE XACK XDEL')
local due          = key(2, 'zset', 'ZADD')               -- key -> when to look next (ms)
local history      = key(3, 'hash', 'HGET HSET HDEL')     -- key -> history
local ledger       = key(4, 'hash', 'HMGET HINCRBY HSET')
local findings     = key(5, 'hash', 'HGET HSET HDEL')     -- key -> JSON
local opened       = key(6, 'zset', 'ZADD ZSCORE ZREM')   -- key -> when its finding was opened (ms)
local findings_log = key(7, 'stream', 'XADD')             -- closed findings
local lag          = key(8, 'hash', 'HMGET HINCRBY EXPIRE') -- of this minute: bucket -> count
local late         = key(9, 'hash', 'HMGET HINCRBY HDEL') -- creation bucket -> keys that wait
local keys_judged  = key(10, 'string', 'PFADD')           -- HyperLogLog
local dead         = key(11, 'stream', 'XADD')            -- dead letters
if checked() then return refused end
local group, now, lag_kept_seconds = ARGV[1], ARGV[2], ARGV[3]
-- The entries, one after the other (little endian): lengths of the six texts (u16 u16 u32 u32 u32 u16), next look
-- ms (i64), lag ms (i64, -1 = none), flags (u8); then the texts: id, key, history before, history after
-- ('' = closed), finding ('' = as it is, '-' and why = closed, else its JSON), tally.
local packed = ARGV[4]
-- flags: the key counts among those judged; its tally says what a dead letter held; a verdict was given
local COUNT_KEY, DEAD_LETTER, VERDICT = 1, 2, 4
local LOG_LENGTH = 10000

local place = 1
local function text(length)
  place = place + length
  return string.sub(packed, place - length, place - 1)
end

local function unpacked()
  local n1, n2, n3, n4, n5, n6, next_ms, lag_ms, flags
  n1, n2, n3, n4, n5, n6, next_ms, lag_ms, flags, place = struct.unpack('<I2I2I4I4I4I2i8i8B', packed, place)
  return {
    id = text(n1), key = text(n2), before = text(n3), after = text(n4), finding = text(n5), tally = text(n6),
    next_ms = next_ms, lag_ms = lag_ms, flags = flags,
  }
end

-- A tally is "field=delta field=delta …"; fields lag:N and late:N have hashes of their own.
local function counters_of(tally)
  local found = {}
  for field, delta in string.gmatch(tally, '(%S+)=(-?%d+)') do
    local group_name, label = string.match(field, '^(la%a+):(.+)')
    local where = group_name == 'lag' and lag or group_name == 'late' and late or ledger
    found[#found + 1] = {where = where, field = where == ledger and field or label, delta = tonumber(delta)}
  end
  return found
end

-- The kind of a finding that a dead letter left behind, where this entry says how the key is: what was known of the
-- key went with the dead letter, and its new history knows of no finding.
local function finding_left(entry)
  local is_told = string.find(entry.tally, 'matches=', 1, true) or string.find(entry.tally, 'open:', 1, true)
  if not is_told or string.byte(entry.before, AT_PHASE) == ALARMED then return end
  return string.match(redis.call('HGET', findings, entry.key) or '', '"kind":"(%l+)"')
end

-- What is to be committed, before anything is.
local refusals, accepted, counters, number = {}, {}, {}, 0
local fields = {[ledger] = {'lag_ms_sum'}, [lag] = {}, [late] = {}}
while place <= #packed do
  local entry = unpacked()
  number = number + 1
  entry.number = number
  local current = redis.call('HGET', history, entry.key) or ''
  if current ~= entry.before then
    refusals[#refusals + 1] = number
    refusals[#refusals + 1] = current
  else
    accepted[#accepted + 1] = entry
    entry.left = finding_left(entry)
    if entry.left then
      table.insert(fields[ledger], 'open:' .. entry.left)
      table.insert(fields[ledger], 'recovered')
    end
    if not counters[entry.tally] then
      counters[entry.tally] = counters_of(entry.tally)
      for _, counter in ipairs(counters[entry.tally]) do
        table.insert(fields[counter.where], counter.field)
      end
    end
  end
end
for where, names in pairs(fields) do countable(where, names) end

local changes = {} -- of findings, as returned
local function changed(entry, since, before)
  changes[#changes + 1] = entry.number
  changes[#changes + 1] = since
  changes[#changes + 1] = before
end

local function put(entry)
  redis.call('XDEL', work, entry.id)
  if entry.left then
    redis.call('HINCRBY', ledger, 'open:' .. entry.left, -1)
    if entry.finding == '' then
      redis.call('HINCRBY', ledger, 'recovered', 1)
      entry.finding = '-recovered'
    end
  end
  if entry.after == '' then
    redis.call('HDEL', history, entry.key)
  else
    redis.call('HSET', history, entry.key, entry.after)
    redis.call('ZADD', due, entry.next_ms, entry.key)
  end
  if string.sub(entry.finding, 1, 1) == '-' then
    local since = redis.call('ZSCORE', opened, entry.key) or now
    local before = redis.call('HGET', findings, entry.key) or ''
    redis.call('XADD', findings_log, 'MAXLEN', '~', LOG_LENGTH, '*', 'k', entry.key, 'since', since, 'closed', now,
      'why', string.sub(entry.finding, 2), 'finding', before)
    redis.call('HDEL', findings, entry.key)
    redis.call('ZREM', opened, entry.key)
    changed(entry, since, before)
  elseif entry.finding ~= '' then
    local before = redis.call('HGET', findings, entry.key) or ''
    redis.call('HSET', findings, entry.key, entry.finding)
    redis.call('ZADD', opened, 'NX', now, entry.key)
    changed(entry, redis.call('ZSCORE', opened, entry.key), before)
  end
  if bit.band(entry.flags, DEAD_LETTER) ~= 0 then
    redis.call('XADD', dead, 'MAXLEN', '~', LOG_LENGTH, '*', 'k', entry.key, 'history', entry.before)
  end
end

-- A server that was replaced and its replacement give the same ids for a while, to entries of other keys: what was
-- claimed from the one must not take another key's entry out of the other.
local function holds(id, name)
  local found = redis.call('XRANGE', work, id, id)[1]
  local fields = found and found[2] or {}
  return name == (fields[1] == 'k' and fields[2] or '') -- as claim.lua hands it out
end

local judged, times, lost, lag_ms_sum, verdict = {}, {}, {}, 0, false
for _, entry in ipairs(accepted) do
  if holds(entry.id, entry.key) and redis.call('XACK', work, group, entry.id) == 1 then
    put(entry)
    if bit.band(entry.flags, COUNT_KEY) ~= 0 then judged[#judged + 1] = entry.key end
    if bit.band(entry.flags, VERDICT) ~= 0 then verdict = true end
    if entry.lag_ms > 0 then lag_ms_sum = lag_ms_sum + entry.lag_ms end
    times[entry.tally] = (times[entry.tally] or 0) + 1
  else
    lost[#lost + 1] = entry.number
  end
end

if verdict then redis.call('HSET', ledger, 'verdict_ms', now) end
if lag_ms_sum > 0 then redis.call('HINCRBY', ledger, 'lag_ms_sum', lag_ms_sum) end
for tally, count in pairs(times) do
  for _, counter in ipairs(counters[tally]) do
    local now_counted = redis.call('HINCRBY', counter.where, counter.field, counter.delta * count)
    if counter.where == lag then
      redis.call('EXPIRE', lag, lag_kept_seconds)
    elseif counter.where == late and now_counted == 0 then
      redis.call('HDEL', late, counter.field)
    end
  end
end
in_slices(judged, function(...) redis.call('PFADD', keys_judged, ...) end)
return {refusals, lost, changes}
