#!lua flags=allow-oom
-- Commit what validators found, key by key, each only if its history is unchanged and its entry is still pending: new
-- history, a place in a new entry that is due later, finding, counters. Otherwise nothing of it. An entry whose keys
-- are all committed is gone from the work stream; of another one those that are not committed stay.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns three lists; a key goes by its position (1 = the first):
--   refused:  {key, its history now, …}
--   lost:     {key, …}: its entry is no longer pending, or it stands in another: another validator's to commit
--   findings: {key, since when it is or was open (ms), the finding before ('' = none), …}, for every key whose
--             finding was opened, rewritten or closed
local work         = key(1, 'stream', 'XRANGE XPENDING XACK XDEL')
local due          = key(2, 'zset', 'ZADD')               -- number of an entry -> when to look next (ms)
local history      = key(3, 'hash', 'HMGET HSET HDEL')    -- key -> history
local ledger       = key(4, 'hash', 'HMGET HINCRBY HSET')
local findings     = key(5, 'hash', 'HLEN HMGET HSET HDEL') -- key -> JSON
local opened       = key(6, 'zset', 'ZADD ZSCORE ZREM')   -- key -> when its finding was opened (ms)
local findings_log = key(7, 'stream', 'XADD')             -- closed findings
local lag          = key(8, 'hash', 'HMGET HINCRBY EXPIRE') -- of this minute: bucket -> count
local late         = key(9, 'hash', 'HMGET HINCRBY HDEL') -- creation bucket -> keys that wait
local keys_judged  = key(10, 'string', 'PFADD')           -- HyperLogLog
local dead         = key(11, 'stream', 'XADD')            -- dead letters
local meta         = key(12, 'hash', 'HMGET HINCRBY')     -- entry: the last number; queued, handed_out: keys in work
local entries      = key(13, 'hash', 'HMGET HSET HDEL')   -- number -> the keys of the entry
local left         = key(14, 'hash', 'HSET')              -- number, of those in `due` -> how many stand in it still
if checked() then return refused end
local group, now, lag_kept_seconds = ARGV[1], ARGV[2], ARGV[3]
-- The entries, one after the other (little endian): id, number ('' = it has none), each behind its length (u16).
-- Tallies: likewise.
local packed_entries, packed_tallies = ARGV[4], ARGV[5]
-- The keys, one after the other: entry, tally (from 0; u16 each), next look ms (i64), lag ms (i64, -1 = none), flags
-- (u8); then, each behind its length (u32): key, history before, history after ('' = closed), as if the key stayed in
-- its entry, finding ('' = as it is, '-' and why = closed, else its JSON).
local packed = ARGV[6]
-- flags: the key counts among those judged; its tally says what a dead letter held; a verdict was given
local COUNT_KEY, DEAD_LETTER, VERDICT = 1, 2, 4
local LOG_LENGTH = 10000

-- A server that was replaced and its replacement give the same ids for a while, to other entries: what was claimed from
-- the one must not take another entry out of the other. So an entry is ours where the stream has its number under its id.
local held, place, id, number = {}, 1
while place <= #packed_entries do
  id, number, place = struct.unpack('<I2c0I2c0', packed_entries, place)
  local found = redis.call('XRANGE', work, id, id)[1]
  local fields = found and found[2] or {}
  local there = found and number == (fields[1] == 'e' and fields[2] or '')
  held[#held + 1] = {id = id, number = number, done = {}, count = 0,
    ours = there and #redis.call('XPENDING', work, group, id, id, 1) == 1}
end

-- A tally is "field=delta field=delta …"; fields lag:N and late:N have hashes of their own. It is told when it says how
-- the key is.
local tallies = {}
local fields = {[ledger] = {'lag_ms_sum', 'recovered'}, [lag] = {}, [late] = {}}
local function add_tally(text)
  local counters = {}
  for field, delta in string.gmatch(text, '(%S+)=(-?%d+)') do
    local group_name, label = string.match(field, '^(la%a+):(.+)')
    local where = group_name == 'lag' and lag or group_name == 'late' and late or ledger
    counters[#counters + 1] = {where = where, field = where == ledger and field or label, delta = tonumber(delta)}
    table.insert(fields[where], counters[#counters].field)
  end
  tallies[#tallies + 1] = {
    counters = counters, times = 0,
    told = string.find(text, 'matches=', 1, true) or string.find(text, 'open:', 1, true),
  }
end
place = 1
while place <= #packed_tallies do
  local text
  text, place = struct.unpack('<I2c0', packed_tallies, place)
  add_tally(text)
end

-- The keys, by their place, each field in a list of its own: a table for each key costs as much as all the rest.
local names, before, after, finding_of = {}, {}, {}, {}
local entry_of, tally_of, next_ms, lag_ms, flags_of, keys = {}, {}, {}, {}, {}, 0
place = 1
while place <= #packed do
  keys = keys + 1
  entry_of[keys], tally_of[keys], next_ms[keys], lag_ms[keys], flags_of[keys], names[keys], before[keys], after[keys],
    finding_of[keys], place = struct.unpack('<I2I2i8i8BI4c0I4c0I4c0I4c0', packed, place)
end

-- The entries' keys. What cannot be read of an entry was handed out as one key without a name.
local numbers = {}
for at, entry in ipairs(held) do numbers[at] = entry.number end
for at, keys in ipairs(values_of(entries, numbers)) do
  held[at].names = keys_of(keys)
end

-- Whether a key stands in an entry, although no history says so: it is gone, or damaged.
local function lists(entry, name)
  if not entry.names then return name == '' end
  for _, listed in ipairs(entry.names) do
    if listed == name then return true end
  end
end

-- What is to be committed, before anything is.
local refusals, lost, accepted = {}, {}, {}
local due_ms = {} -- by what was asked for, which most have in common
for at, current in ipairs(values_of(history, names)) do
  local entry, name = held[entry_of[at] + 1], names[at]
  current = current or ''
  local stands, is_unchanged = sub(current, 1, NUMBER_BYTES) == entry.number, current == before[at]
  if not entry.ours or entry.done[name] then
    lost[#lost + 1] = at
  elseif stands and not is_unchanged then
    refusals[#refusals + 1] = at
    refusals[#refusals + 1] = current
  elseif stands or is_unchanged and lists(entry, name) then
    accepted[#accepted + 1] = at
    entry.done[name], entry.count = true, entry.count + 1
    local tally, asked_ms = tallies[tally_of[at] + 1], next_ms[at]
    tally.times = tally.times + 1
    due_ms[asked_ms] = due_ms[asked_ms] or due_together(asked_ms)
    entry.at_ms = entry.at_ms or due_ms[asked_ms]
    if after[at] == '' or entry.at_ms ~= due_ms[asked_ms] then entry.parts = true end
  else
    lost[#lost + 1] = at
  end
end

-- The kind of a finding that a dead letter left behind, where the tally tells how the key is: what was known of the key
-- went with the dead letter, and its new history knows of no finding.
local left_behind = {}
local function find_left_behind()
  local places, told = {}, {}
  for _, at in ipairs(accepted) do
    if tallies[tally_of[at] + 1].told and byte(before[at], AT_PHASE) ~= ALARMED then
      places[#places + 1], told[#told + 1] = at, names[at]
    end
  end
  for nth, finding in ipairs(values_of(findings, told)) do
    local kind = finding and string.match(finding, '"kind":"(%l+)"')
    if kind then
      left_behind[places[nth]] = kind
      table.insert(fields[ledger], 'open:' .. kind)
    end
  end
end
if #accepted > 0 and redis.call('HLEN', findings) > 0 then find_left_behind() end

for where, counted in pairs(fields) do countable(where, counted) end
countable(meta, {'entry', 'queued', 'handed_out'})

-- An entry whose keys go on together goes on as it is, from `work` into `due`; others end, and their keys get new ones.
for _, entry in ipairs(held) do
  entry.goes_on = entry.names and entry.count == #entry.names and not entry.parts
end
local groups = {}
for _, at in ipairs(accepted) do
  if after[at] ~= '' and not held[entry_of[at] + 1].goes_on then look_together(groups, at, due_ms[next_ms[at]]) end
end
local made, number_now = numbered(meta, groups, names)
written({work = work, due = due, entries = entries, left = left}, made, now)

local totals = {[ledger] = {}, [lag] = {}, [late] = {}}
local function count(where, field, delta)
  totals[where][field] = (totals[where][field] or 0) + delta
end

local changes = {} -- of findings, as returned
local function change_finding(at, name, finding)
  local stored = redis.call('HMGET', findings, name)[1] or ''
  local since
  if sub(finding, 1, 1) == '-' then
    since = redis.call('ZSCORE', opened, name) or now
    redis.call('XADD', findings_log, 'MAXLEN', '~', LOG_LENGTH, '*', 'k', name, 'since', since, 'closed', now,
      'why', sub(finding, 2), 'finding', stored)
    redis.call('HDEL', findings, name)
    redis.call('ZREM', opened, name)
  else
    redis.call('HSET', findings, name, finding)
    redis.call('ZADD', opened, 'NX', now, name)
    since = redis.call('ZSCORE', opened, name)
  end
  changes[#changes + 1] = at
  changes[#changes + 1] = since
  changes[#changes + 1] = stored
end

local function finding_now(at)
  count(ledger, 'open:' .. left_behind[at], -1)
  if finding_of[at] ~= '' then return finding_of[at] end
  count(ledger, 'recovered', 1)
  return '-recovered'
end

local stored, closed, judged, lag_ms_sum, verdict = {}, {}, {}, 0, false
for _, at in ipairs(accepted) do
  local name, flags, finding = names[at], flags_of[at], left_behind[at] and finding_now(at) or finding_of[at]
  if after[at] == '' then
    closed[#closed + 1] = name
  else
    stored[#stored + 1] = name
    stored[#stored + 1] = number_now[at] and number_now[at] .. sub(after[at], NUMBER_BYTES + 1) or after[at]
  end
  if finding ~= '' then change_finding(at, name, finding) end
  if flags % (2 * COUNT_KEY) >= COUNT_KEY then judged[#judged + 1] = name end
  if flags % (2 * DEAD_LETTER) >= DEAD_LETTER then
    redis.call('XADD', dead, 'MAXLEN', '~', LOG_LENGTH, '*', 'k', name, 'history', before[at])
  end
  if flags >= VERDICT then verdict = true end
  if lag_ms[at] > 0 then lag_ms_sum = lag_ms_sum + lag_ms[at] end
end
in_slices(stored, function(...) redis.call('HSET', history, ...) end)
in_slices(closed, function(...) redis.call('HDEL', history, ...) end)

local done_ids, done_numbers, of_work = {}, {}, 0
for _, entry in ipairs(held) do
  local listed = entry.names and #entry.names or 1
  if entry.names then of_work = of_work + entry.count end
  if entry.count == listed then
    done_ids[#done_ids + 1] = entry.id
    if entry.goes_on then
      redis.call('HSET', left, entry.number, listed)
      redis.call('ZADD', due, string.format('%d', entry.at_ms), entry.number)
    else
      done_numbers[#done_numbers + 1] = entry.number
    end
  elseif entry.count > 0 then
    local still = {}
    for _, name in ipairs(entry.names) do
      if not entry.done[name] then still[#still + 1] = name end
    end
    redis.call('HSET', entries, entry.number, packed_keys(still))
  end
end
in_slices(done_ids, function(...)
  redis.call('XACK', work, group, ...)
  redis.call('XDEL', work, ...)
end)
in_slices(done_numbers, function(...) redis.call('HDEL', entries, ...) end)
if of_work > 0 then
  redis.call('HINCRBY', meta, 'queued', -of_work)
  redis.call('HINCRBY', meta, 'handed_out', -of_work)
end

for _, tally in ipairs(tallies) do
  if tally.times > 0 then
    for _, counter in ipairs(tally.counters) do count(counter.where, counter.field, counter.delta * tally.times) end
  end
end
if lag_ms_sum > 0 then count(ledger, 'lag_ms_sum', lag_ms_sum) end
if verdict then redis.call('HSET', ledger, 'verdict_ms', now) end
for where, deltas in pairs(totals) do
  for field, delta in pairs(deltas) do
    if redis.call('HINCRBY', where, field, delta) == 0 and where == late then redis.call('HDEL', late, field) end
  end
end
if next(totals[lag]) then redis.call('EXPIRE', lag, lag_kept_seconds) end
in_slices(judged, function(...) redis.call('PFADD', keys_judged, ...) end)
return {refusals, lost, changes}
