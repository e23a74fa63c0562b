-- What every script begins with: store/connection.py puts it behind the script's first line.
--
-- Redis does not roll a script back: a command that is refused in the middle leaves standing what was written
-- before it. So a script names its keys first, each with its type and what will be done with it, and `checked`
-- refuses the whole of it before anything is written.
--
-- The bytes of a history (codec.py); places count from 1, as Lua does.
local FORMAT = 3
local NUMBER_BYTES = 8
local AT_FORMAT, AT_PHASE, AT_FLAGS, AT_KIND, AT_LO = 9, 10, 11, 12, 13
local AT_FIRST, AT_ALARMED, AT_SKIPPED, AT_LATE, AT_LOOKED_MS = 14, 18, 22, 26, 30
local HEADER_BYTES, EXCUSE_BYTES, HELD_BYTES, VERSION_BYTES, DIGEST_BYTES = 37, 12, 64, 24, 16
local WAITING, SETTLING, ALARMED, EXCUSED = 0, 1, 2, 3
local UNSEEN, SETTLE, INCOMPLETE, HELD, EXCUSE, SUSPECT = 1, 2, 4, 8, 16, 32
local UNKNOWN = string.rep('\255', 16)

local byte, sub = string.byte, string.sub -- for every key: a name of our own is found sooner

-- The state's clock, as the caller knows it: the last argument of every call. Redis' own clock may step, so nothing
-- depends on it (clock.py).
local caller_now_ms = tonumber(table.remove(ARGV) or nil)
local function now_ms()
  return caller_now_ms
end

local refused = {}

-- How many words a command needs behind its key, where it needs any: with too few, `acl_check_cmd` of Redis 8.0.2 (with
-- Debian's security corrections) is an error.
local words_needed = {
  EXPIRE = 1, GETBIT = 1, HDEL = 1, HEXISTS = 1, HGET = 1, HINCRBY = 2, HMGET = 1, HSET = 2, SETBIT = 2, XACK = 2,
  XADD = 3, XAUTOCLAIM = 4, XCLAIM = 4, XDEL = 1, XPENDING = 1, XRANGE = 2, ZADD = 2, ZCOUNT = 2, ZRANGE = 2,
  ZRANGEBYSCORE = 2, ZREM = 1, ZREMRANGEBYSCORE = 2, ZSCORE = 1,
}
local any_words = {'0', '0', '0', '0'}

-- Returns nil, in a trial, where the server has no such command.
local acl_check_cmd = redis.acl_check_cmd
if not caller_now_ms then
  acl_check_cmd = function(...)
    local is_known, may = pcall(redis.acl_check_cmd, ...)
    if is_known then return may end
  end
end

local function is_allowed(command, name)
  return acl_check_cmd(command, name, unpack(any_words, 1, words_needed[command] or 0))
end

-- The same of a stream: some commands have its name behind a word.
local function is_allowed_on_stream(command, name)
  if command == 'XREADGROUP' then return acl_check_cmd(command, 'GROUP', 'g', 'c', 'STREAMS', name, '>') end
  if command == 'XGROUP' then return acl_check_cmd(command, 'CREATE', name, 'g', '0', 'MKSTREAM') end
  if command == 'XGROUP|DELCONSUMER' then return acl_check_cmd('XGROUP', 'DELCONSUMER', name, 'g', 'c') end
  if command == 'XINFO|CONSUMERS' then return acl_check_cmd('XINFO', 'CONSUMERS', name, 'g') end
  return is_allowed(command, name)
end

-- permissions.py reads it.
local function refuse(may, command, name)
  refused[#refused + 1] = command .. (may == nil and ' is unknown to the server' or ' on ' .. name)
end

-- The name of a key. kind: its type, as TYPE tells it (a HyperLogLog is a string), nil = any. commands: what is
-- done with it.
local function key(number, kind, commands)
  local name, is_allowed_there = KEYS[number], kind == 'stream' and is_allowed_on_stream or is_allowed
  for command in string.gmatch(commands, '%S+') do
    local may = is_allowed_there(command, name)
    if not may then refuse(may, command, name) end
  end
  local found = redis.pcall('TYPE', name) -- which says as well whether it is allowed
  if found.err then
    local may = is_allowed('TYPE', name)
    if may then error(found) end
    refuse(may, 'TYPE', name)
  elseif kind and found.ok ~= 'none' and found.ok ~= kind and #refused == 0 then
    error({err = 'WRONGTYPE ' .. name .. ' is a ' .. found.ok .. ', not a ' .. kind})
  end
  return name
end

-- To be called when all keys are named. True: the script was called without arguments, only to say what is
-- `refused` (permissions.py).
local function checked()
  if #ARGV == 0 then return true end
  if #refused > 0 then error({err = 'NOPERM refused: ' .. table.concat(refused, ', ')}) end
end

-- The lease of a partition: epoch (as text), when it runs out (ms), owner; nothing when it never had one.
local function lease_of(leases, partition)
  local epoch, expires_ms, owner = string.match(redis.call('HGET', leases, partition) or '', '^(%d+)|(%d+)|(.*)$')
  return epoch, tonumber(expires_ms or 0), owner
end

-- Whether these bytes can be a history, as far as a script goes by them; codec.py looks closer.
local function is_history(bytes)
  local format, phase, flags, _, lo = byte(bytes, AT_FORMAT, AT_LO)
  if format ~= FORMAT or not lo or phase > EXCUSED then return false end
  local versions_bytes = #bytes - HEADER_BYTES
  if flags >= HELD and bit.band(flags, EXCUSE) ~= 0 then versions_bytes = versions_bytes - EXCUSE_BYTES end
  if flags >= HELD and bit.band(flags, HELD) ~= 0 then versions_bytes = versions_bytes - HELD_BYTES end
  return versions_bytes >= VERSION_BYTES and versions_bytes % VERSION_BYTES == 0 and lo <= versions_bytes / VERSION_BYTES
end

-- A history that is none becomes a dead letter. What it counted nobody can tell: it stays outstanding in the ledger.
-- The entry that it stood in passes over it.
local function bury_damaged(dead, ledger, name, bytes)
  redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', 'k', name, 'history', bytes)
  redis.call('HINCRBY', ledger, 'dead_entries:poison', 1)
end

-- Call with the list's items as arguments, a thousand at a time: unpack of a large table overflows the Lua stack.
local function in_slices(list, call)
  for first = 1, #list, 1000 do
    call(unpack(list, first, math.min(first + 999, #list)))
  end
end

-- A command on a key, with all of these as its arguments.
local function call_with_all(command, name, list)
  for first = 1, #list, 1000 do
    redis.call(command, name, unpack(list, first, math.min(first + 999, #list)))
  end
end

-- The values of these fields of a hash, false where there is none.
local function values_of(hash, fields)
  if #fields <= 1000 then return #fields > 0 and redis.call('HMGET', hash, unpack(fields)) or {} end
  local values = {}
  in_slices(fields, function(...)
    for _, value in ipairs(redis.call('HMGET', hash, ...)) do values[#values + 1] = value end
  end)
  return values
end

-- Refuses the script, as `checked` does, when one of these fields of a hash cannot be counted up.
local function countable(name, fields)
  for i, value in ipairs(values_of(name, fields)) do
    if value and (#value > 16 or not string.match(value, '^-?%d+$')) then
      error({err = 'ERR ' .. name .. ' holds no number at ' .. tostring(fields[i])})
    end
  end
end

-- --- entries ---
-- An entry is up to so many keys that are looked at together. Its number, 8 bytes, stands at the beginning of each of
-- their histories: a key stands in the entry that its history names. Keys leave an entry of `due` without its being
-- written anew; it passes over them when its time comes. One of `work` lists exactly those that stand in it.
local ENTRY_KEYS = 100

local function packed_keys(names)
  local told, count = {}, #names
  for at = 1, count do
    told[2 * at - 1], told[2 * at] = #names[at], names[at]
  end
  return struct.pack('<I2' .. string.rep('I2c0', count), count, unpack(told))
end

local function unpacked_keys(packed)
  local names = {struct.unpack('<' .. string.rep('I2c0', struct.unpack('<I2', packed)), packed, 3)}
  local behind = table.remove(names)
  return names, behind
end

-- The keys of an entry as they were packed; nothing where that is damaged, if only something stands behind them, or gone.
local function keys_of(packed)
  if not packed then return end
  local whole, names, behind = pcall(unpacked_keys, packed)
  if whole and behind > #packed then return names end
end

local function number_of(bytes)
  return sub(bytes, 1, NUMBER_BYTES)
end

-- A look that is in the future is due at the next tenth of a second, a distant one at the next second: never earlier
-- than it is asked for, and together with others.
local function due_together(at_ms)
  local ahead_ms = at_ms - now_ms()
  if ahead_ms <= 0 then return at_ms end
  local step_ms = ahead_ms > 10000 and 1000 or 100
  return math.ceil(at_ms / step_ms) * step_ms
end

-- Adds a key, by the place of its name, to those that are to be looked at together; 'at once' is a time, too.
local function look_together(groups, place, at_ms)
  local group = groups[at_ms]
  if group then
    group[#group + 1] = place
  else
    groups[at_ms] = {place}
  end
end

-- The entries that groups make, numbered; and by the place of each key's name its entry's number.
local function numbered(meta, groups, names)
  local made, number, many = {}, {}, 0
  for _, group in pairs(groups) do many = many + math.ceil(#group / ENTRY_KEYS) end
  local last = many > 0 and redis.call('HINCRBY', meta, 'entry', many) - many
  for at_ms, group in pairs(groups) do
    for first = 1, #group, ENTRY_KEYS do
      last = last + 1
      local entry_number, listed = struct.pack('<I8', last), {}
      for nth = first, math.min(first + ENTRY_KEYS - 1, #group) do
        local place = group[nth]
        listed[nth - first + 1], number[place] = names[place], entry_number
      end
      made[#made + 1] = {at_ms = at_ms, number = entry_number, names = listed}
    end
  end
  return made, number
end

-- Writes entries down. at: the keys work, due, entries, left. `left` holds of each entry in `due` how many keys stand
-- in it. Returns how many keys went to work.
local function written(at, made, since)
  local lists, counts, instants, at_work = {}, {}, {}, 0
  for _, entry in ipairs(made) do
    lists[#lists + 1], lists[#lists + 2] = entry.number, packed_keys(entry.names)
    if entry.at_ms == 'at once' then
      redis.call('XADD', at.work, '*', 'e', entry.number, 't', since)
      at_work = at_work + #entry.names
    else
      counts[#counts + 1], counts[#counts + 2] = entry.number, #entry.names
      instants[#instants + 1], instants[#instants + 2] = string.format('%d', entry.at_ms), entry.number
    end
  end
  call_with_all('HSET', at.entries, lists)
  call_with_all('HSET', at.left, counts)
  call_with_all('ZADD', at.due, instants)
  return at_work
end

-- Which of these entries are in `due`: number -> how many keys stand in it; more than there can be where that is damaged.
local function still_waiting(left, numbers)
  local waiting = {}
  for at, count in ipairs(values_of(left, numbers)) do
    if count then waiting[numbers[at]] = string.match(count, '^%d%d?%d?$') or ENTRY_KEYS + 1 end
  end
  return waiting
end

-- Notes that keys left entries of `due`. waiting: as it was. departed: number -> how many left.
local function depart(at, waiting, departed)
  local counts = {}
  for number, count in pairs(departed) do
    local still = tonumber(waiting[number]) - count
    if still > 0 then
      counts[#counts + 1], counts[#counts + 2] = number, still
    else
      redis.call('ZREM', at.due, number)
      redis.call('HDEL', at.left, number)
      redis.call('HDEL', at.entries, number)
    end
  end
  call_with_all('HSET', at.left, counts)
end
