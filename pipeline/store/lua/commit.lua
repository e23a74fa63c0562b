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
-- The tallies, one after the other, each behind its length (u16; all numbers are little endian).
local packed_tallies = ARGV[4]
-- The keys, by the entry that they were claimed with: its id and its number ('' = it has none), each behind its length
-- (u16), and keys, packed as in `entries`, behind theirs (u32). Then of each key: tally (from 1; u16), next look ms
-- (i64), lag ms (i64, -1 = none), flags (u8), and, each behind its length (u32), history before, history after
-- ('' = closed), as if the key stayed in its entry, and finding ('' = as it is, '-' and why = closed, else its JSON).
local packed = ARGV[5]
local OF_KEY, VALUES = 'I2i8i8BI4c0I4c0I4c0', 7
local TALLY, NEXT_MS, LAG_MS, FLAGS, BEFORE, AFTER, FINDING = 1, 2, 3, 4, 5, 6, 7
-- flags: the key counts among those judged; its tally says what a dead letter held; a verdict was given
local COUNT_KEY, DEAD_LETTER, VERDICT = 1, 2, 4
local LOG_LENGTH = 10000

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
local place = 1
while place <= #packed_tallies do
  local text
  text, place = struct.unpack('<I2c0', packed_tallies, place)
  add_tally(text)
end

-- A server that was replaced and its replacement give the same ids for a while, to other entries: what was claimed from
-- the one must not take another entry out of the other. So an entry is ours where the stream has its number under its id.
local function is_ours(id, number)
  local found = redis.call('XRANGE', work, id, id)[1]
  local fields = found and found[2] or {}
  return found and number == (fields[1] == 'e' and fields[2] or '')
    and #redis.call('XPENDING', work, group, id, id, 1) == 1
end

-- What is told of keys of one entry, the values of all of them in one list: a table for each key, or a list for each kind
-- of value, costs as much as all the rest. What cannot be read of an entry was handed out as one key without a name.
local held, entry_of, parts, keys = {}, {}, {}, 0
place = 1
while place <= #packed do
  local id, number, listed
  id, number, listed, place = struct.unpack('<I2c0I2c0I4c0', packed, place)
  local names = unpacked_keys(listed)
  local values = {struct.unpack('<' .. string.rep(OF_KEY, #names), packed, place)}
  place = values[#values]
  local entry = entry_of[id]
  if not entry then
    local stored = values_of(entries, {number})[1]
    entry = {id = id, number = number, ours = is_ours(id, number), listed = stored, done = {}, count = 0,
      names = stored == listed and names or keys_of(stored)}
    held[#held + 1], entry_of[id] = entry, entry
  end
  -- An entry that was damaged since is no longer the one that was claimed.
  parts[#parts + 1] = {entry = entry, names = names, values = values, accepted = {}, from = keys,
    ours = entry.ours and (entry.names or names[1] == ''), is_listed = listed == entry.listed}
  keys = keys + #names
end

-- Whether a key stands in an entry, although no history says so: it is gone, or damaged.
local function lists(entry, name)
  if not entry.names then return name == '' end
  for _, listed in ipairs(entry.names) do
    if listed == name then return true end
  end
end

-- What is to be committed, before anything is.
local refusals, lost = {}, {}
local due_ms = {} -- by what was asked for, which most have in common
for _, part in ipairs(parts) do
  local entry, names, values, accepted, from = part.entry, part.names, part.values, part.accepted, part.from
  local ours, number, done, is_listed = part.ours, entry.number, entry.done, part.is_listed
  local histories, count, at = values_of(history, names), 0, 0
  for nth = 1, #names do
    local name, current = names[nth], histories[nth] or ''
    local is_unchanged = current == values[at + BEFORE]
    if not ours or done[name] then
      lost[#lost + 1] = from + nth
    elseif is_unchanged and (is_listed or number_of(current) == number or lists(entry, name)) then
      count = count + 1
      accepted[count], done[name] = nth, true
      local tally, asked_ms = tallies[values[at + TALLY]], values[at + NEXT_MS]
      local at_ms = due_ms[asked_ms] or due_together(asked_ms)
      tally.times, due_ms[asked_ms] = tally.times + 1, at_ms
      entry.at_ms = entry.at_ms or at_ms
      if values[at + AFTER] == '' or entry.at_ms ~= at_ms then entry.is_split = true end
    elseif not is_unchanged and number_of(current) == number then
      refusals[#refusals + 1] = from + nth
      refusals[#refusals + 1] = current
    else
      lost[#lost + 1] = from + nth
    end
    at = at + VALUES
  end
  entry.count = entry.count + count
end

-- The kind of a finding that a dead letter left behind, where the tally tells how the key is: what was known of the key
-- went with the dead letter, and its new history knows of no finding.
local left_behind = {}
local function find_left_behind()
  local places, told = {}, {}
  for _, part in ipairs(parts) do
    for _, nth in ipairs(part.accepted) do
      local at = (nth - 1) * VALUES
      if tallies[part.values[at + TALLY]].told and byte(part.values[at + BEFORE], AT_PHASE) ~= ALARMED then
        places[#places + 1], told[#told + 1] = part.from + nth, part.names[nth]
      end
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
if redis.call('HLEN', findings) > 0 then find_left_behind() end

for where, counted in pairs(fields) do countable(where, counted) end
countable(meta, {'entry', 'queued', 'handed_out'})

-- An entry whose keys go on together goes on as it is, from `work` into `due`; others end, and their keys get new ones.
for _, entry in ipairs(held) do
  entry.goes_on = entry.names and entry.count == #entry.names and not entry.is_split
end
local groups, leaving = {}, {}
for _, part in ipairs(parts) do
  for _, nth in ipairs(part.entry.goes_on and {} or part.accepted) do
    local at = (nth - 1) * VALUES
    if part.values[at + AFTER] ~= '' then
      leaving[part.from + nth] = part.names[nth]
      look_together(groups, part.from + nth, due_ms[part.values[at + NEXT_MS]])
    end
  end
end
local made, number_now = numbered(meta, groups, leaving)
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

local function finding_now(at, finding)
  count(ledger, 'open:' .. left_behind[at], -1)
  if finding ~= '' then return finding end
  count(ledger, 'recovered', 1)
  return '-recovered'
end

local stored, many, closed, judged, many_judged, lag_ms_sum, verdict = {}, 0, {}, {}, 0, 0, false
for _, part in ipairs(parts) do
  local names, values, accepted, from = part.names, part.values, part.accepted, part.from
  for one = 1, #accepted do
    local nth = accepted[one]
    local name, place, at = names[nth], from + nth, (nth - 1) * VALUES
    local lag_ms, flags, after, finding = values[at + LAG_MS], values[at + FLAGS], values[at + AFTER], values[at + FINDING]
    if after == '' then
      closed[#closed + 1] = name
    else
      local number = number_now[place]
      stored[many + 1], stored[many + 2] = name, number and number .. sub(after, NUMBER_BYTES + 1) or after
      many = many + 2
    end
    if left_behind[place] then finding = finding_now(place, finding) end
    if finding ~= '' then change_finding(place, name, finding) end
    if flags % (2 * COUNT_KEY) >= COUNT_KEY then
      many_judged = many_judged + 1
      judged[many_judged] = name
    end
    if flags % (2 * DEAD_LETTER) >= DEAD_LETTER then
      redis.call('XADD', dead, 'MAXLEN', '~', LOG_LENGTH, '*', 'k', name, 'history', values[at + BEFORE])
    end
    if flags >= VERDICT then verdict = true end
    if lag_ms > 0 then lag_ms_sum = lag_ms_sum + lag_ms end
  end
end
call_with_all('HSET', history, stored)
call_with_all('HDEL', history, closed)

local done_ids, done_numbers, counts, instants, of_work = {}, {}, {}, {}, 0
for _, entry in ipairs(held) do
  local listed = entry.names and #entry.names or 1
  if entry.names then of_work = of_work + entry.count end
  if entry.count == listed then
    done_ids[#done_ids + 1] = entry.id
    if entry.goes_on then
      counts[#counts + 1], counts[#counts + 2] = entry.number, listed
      instants[#instants + 1], instants[#instants + 2] = string.format('%d', entry.at_ms), entry.number
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
call_with_all('HSET', left, counts)
call_with_all('ZADD', due, instants)
in_slices(done_ids, function(...)
  redis.call('XACK', work, group, ...)
  redis.call('XDEL', work, ...)
end)
call_with_all('HDEL', entries, done_numbers)
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
call_with_all('PFADD', keys_judged, judged)
return {refusals, lost, changes}
