#!lua flags=allow-oom
-- Claim work: promote entries that are due into the work stream (the one way into a validator), take over entries
-- whose validator went silent, read new entries, and hand them out with their keys' histories. Most keys that are due
-- are settled and only to be forgotten: that is done here, which spares them the way to a validator and back.
-- An entry that was delivered too often is taken apart: its keys are to be tried alone.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns {now_ms, watermark_ms, gap_ms, watched_since_ms, readers alive, {id, number, deliveries, 1 = to be tried
-- alone, keys as packed, {history, …}, …}, converge_within_ms, first_look_ms, adapted_ms: 0 where the deadline is
-- fixed}; keys are false for what is no entry, its number too if it has none; a history where there is none.
local work    = key(1, 'stream', 'XADD XREADGROUP XAUTOCLAIM XPENDING XACK XDEL XINFO|CONSUMERS XGROUP|DELCONSUMER')
local due     = key(2, 'zset', 'ZRANGEBYSCORE ZREM')                     -- number of an entry -> when to look next (ms)
local history = key(3, 'hash', 'HMGET HSET HDEL')                        -- key -> history
local meta    = key(4, 'hash', 'HMGET HINCRBY')
local ledger  = key(5, 'hash', 'HINCRBY')
local readers = key(6, 'zset', 'ZCOUNT')                               -- reader -> alive until (ms)
local entries = key(7, 'hash', 'HMGET HSET HDEL')                        -- number -> the keys of the entry
local left    = key(8, 'hash', 'HMGET HSET HDEL')                        -- number, of those in `due` -> how many stand in it still
if checked() then return refused end
local group, consumer, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
local reclaim_after_ms = tonumber(ARGV[4]) -- 0: do not look for entries of others
local adopt = ARGV[5] == 'adopt' -- the first claim of this consumer: take back what its earlier life left pending
local forget_after_ms = tonumber(ARGV[6]) -- a consumer that asked for nothing as long is gone
local max_deliveries = tonumber(ARGV[7]) -- an entry that was delivered more often is to be tried alone
local FORGET_KEYS = 10 * wanted -- most that are promoted or forgotten in one go
local now = now_ms()
countable(meta, {'entry', 'queued', 'handed_out'})

-- The entries that are due, as far as they are wanted: their numbers, since when, how many keys are said to stand in each.
local function ready()
  local found = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, wanted)
  local numbers, since, some, counts, keys = {}, {}, {}, {}, 0
  for place = 1, #found, 2 do
    numbers[#numbers + 1], since[#since + 1] = found[place], string.format('%d', tonumber(found[place + 1]))
  end
  for place, count in ipairs(values_of(left, numbers)) do
    if keys >= FORGET_KEYS then break end
    counts[place] = tonumber(count or 0) or 0
    keys = keys + math.min(counts[place], ENTRY_KEYS)
    some[place] = numbers[place]
  end
  return some, since, counts
end

-- Where the judging rule's `wake` closes a history without a look, whatever the moment.
local CLOSING = {[0] = true, [INCOMPLETE] = true, [SUSPECT] = true, [INCOMPLETE + SUSPECT] = true} -- no SETTLE, no HELD
local function is_over(bytes)
  local format, phase, flags = byte(bytes, AT_FORMAT, AT_FLAGS)
  return phase == SETTLING and CLOSING[flags] and format == FORMAT
    and #bytes > HEADER_BYTES and (#bytes - HEADER_BYTES) % VERSION_BYTES == 0
end

-- A key stands in the entry that its history names, if that one lists it. If not, the number is damaged, and the key would
-- never be looked at: it stays where it is listed.
local function stands_elsewhere(name, bytes)
  if not is_history(bytes) then return false end
  for _, listed in ipairs(keys_of(values_of(entries, {number_of(bytes)})[1]) or {}) do
    if listed == name then return true end
  end
  return false
end

-- Adds to `standing` what the damage of a number, or of a name in the entry, took out of it: of the names without a
-- history so many as are missing, each to become a dead letter.
local function find_missing(number, names, histories, standing, missing)
  local unknown = {}
  for place = 1, #names do
    local name, bytes = names[place], histories[place]
    if not bytes then
      unknown[#unknown + 1] = name
    elseif number_of(bytes) ~= number and is_history(bytes) and not stands_elsewhere(name, bytes) then
      standing[#standing + 1], missing = name, missing - 1
    end
  end
  for nth = 1, math.min(missing, #unknown) do standing[#standing + 1] = unknown[nth] end
end

-- Of an entry's keys those that stand in it and are to be looked at (also those whose history is none: a validator makes
-- a dead letter of it); the others that stand in it are only to be forgotten, and are the second list. counted: how many
-- there should be.
local function to_look_at(number, names, counted)
  local standing, over, many_over, histories = {}, {}, 0, values_of(history, names)
  for place = 1, #names do
    local bytes = histories[place]
    local stands = bytes and sub(bytes, 1, NUMBER_BYTES) == number
    if stands and is_over(bytes) then
      many_over = many_over + 1
      over[many_over] = names[place]
    elseif stands or bytes and not is_history(bytes) then
      standing[#standing + 1] = names[place]
    end
  end
  local missing = counted - #standing - many_over
  if missing > 0 and counted <= #names then find_missing(number, names, histories, standing, missing) end
  return standing, over
end

-- What cannot be read of an entry goes to a validator as it is, which makes a dead letter of it.
local function promote()
  local numbers, since, counts = ready()
  local gone, promoted = {}, 0
  for place, packed in ipairs(values_of(entries, numbers)) do
    local number, names = numbers[place], keys_of(packed)
    local standing, over = to_look_at(number, names or {}, counts[place])
    promoted = promoted + #standing
    call_with_all('HDEL', history, over)
    if names and #standing == 0 then
      gone[#gone + 1] = number
    else
      if names and #standing < #names then redis.call('HSET', entries, number, packed_keys(standing)) end
      redis.call('XADD', work, '*', 'e', number, 't', since[place])
    end
  end
  call_with_all('HDEL', entries, gone)
  call_with_all('HDEL', left, numbers)
  call_with_all('ZREM', due, numbers)
  if promoted > 0 then redis.call('HINCRBY', meta, 'queued', promoted) end
end
promote()

local out, keys = {}, 0

local function remove(id, number)
  redis.call('XACK', work, group, id)
  redis.call('XDEL', work, id)
  redis.call('HDEL', entries, number)
end

-- Of an entry's keys those that stand in it, with what their histories are. One without a history, or with one that
-- is none, is to become a dead letter. An entry of `work` lists no other keys, unless something was damaged.
local function standing_of(number, names)
  local histories, elsewhere = values_of(history, names), {}
  for place = 1, #names do
    local bytes = histories[place]
    if bytes and sub(bytes, 1, NUMBER_BYTES) ~= number and stands_elsewhere(names[place], bytes) then
      elsewhere[#elsewhere + 1] = place
    end
  end
  for nth = #elsewhere, 1, -1 do
    table.remove(names, elsewhere[nth])
    table.remove(histories, elsewhere[nth])
  end
  return names, histories
end

-- An entry for each of the keys, marked: to be tried alone.
local function take_apart(names, histories, since)
  local before = redis.call('HINCRBY', meta, 'entry', #names) - #names
  for place, name in ipairs(names) do
    local number, bytes = struct.pack('<I8', before + place), histories[place]
    redis.call('HSET', entries, number, packed_keys({name}))
    if bytes and is_history(bytes) then
      redis.call('HSET', history, name, number .. sub(bytes, NUMBER_BYTES + 1))
    end
    redis.call('XADD', work, '*', 'e', number, 't', since, 'a', '1')
  end
end

local function hand_out(id, fields, packed, deliveries)
  local number, names = fields and fields[1] == 'e' and fields[2], keys_of(packed)
  if not names then
    out[#out + 1] = {id, number, deliveries, deliveries > max_deliveries and 1 or 0, false, {}}
    return 1
  end
  local listed = #names
  local standing, histories = standing_of(number, names)
  local gone = listed - #standing
  if deliveries == 1 then redis.call('HINCRBY', meta, 'handed_out', listed) end
  if gone > 0 then -- a history that was damaged went on in another entry
    redis.call('HINCRBY', meta, 'queued', -gone)
    redis.call('HINCRBY', meta, 'handed_out', -gone)
    packed = packed_keys(standing)
    redis.call('HSET', entries, number, packed)
  end
  local alone = deliveries > max_deliveries or fields[5] == 'a'
  if alone and #standing > 1 then
    take_apart(standing, histories, fields[4])
    redis.call('HINCRBY', meta, 'handed_out', -#standing)
  end
  if #standing == 0 or alone and #standing > 1 then
    remove(id, number)
  else
    out[#out + 1] = {id, number, deliveries, alone and 1 or 0, packed, histories}
  end
  return #standing
end

-- Hands out what `more` finds of so many entries, again and again, until there are as many keys as are wanted.
local function fill(again, more)
  local before, some = keys, true
  while keys < wanted and some do
    local found, numbers = more(math.max(1, math.floor((wanted - keys) / ENTRY_KEYS))), {}
    some = found ~= nil
    for place, entry in ipairs(found or {}) do
      numbers[place] = entry[2] and entry[2][1] == 'e' and entry[2][2] or ''
    end
    local packed = values_of(entries, numbers)
    for place, entry in ipairs(found or {}) do
      local deliveries = again and redis.call('XPENDING', work, group, entry[1], entry[1], 1)[1][4] or 1
      keys = keys + hand_out(entry[1], entry[2], packed[place], deliveries)
    end
  end
  if again and keys > before then redis.call('HINCRBY', ledger, 'entries_redelivered', keys - before) end
end

-- Consumers of hosts that are gone would stay for ever. Those that hold something go on holding it until it is taken
-- over; one that is there after all comes back with its next claim.
local function forget_gone()
  for _, told in ipairs(redis.call('XINFO', 'CONSUMERS', work, group)) do
    local of = {}
    for i = 1, #told, 2 do of[told[i]] = told[i + 1] end
    if of.name ~= consumer and of.pending == 0 and of.idle >= forget_after_ms then
      redis.call('XGROUP', 'DELCONSUMER', work, group, of.name)
    end
  end
end

local function read(count, from)
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', work, from)
  local found = reply and reply[1][2]
  if found and #found > 0 then return found end
end

if adopt then
  local from = '0'
  fill(true, function(count)
    local found = read(count, from)
    if found then from = found[#found][1] end
    return found
  end)
  forget_gone()
end
if reclaim_after_ms > 0 then
  local from = '0-0'
  fill(true, function(count)
    if not from then return end
    local reply = redis.call('XAUTOCLAIM', work, group, consumer, reclaim_after_ms, from, 'COUNT', count)
    from = reply[1] ~= '0-0' and reply[1] or nil
    return reply[2]
  end)
end
fill(false, function(count) return read(count, '>') end)
local facts = redis.call('HMGET', meta, 'watermark_ms', 'gap_ms', 'watched_since_ms', 'converge_within_ms',
  'first_look_ms', 'adapted_ms')
return {now, facts[1] or '0', facts[2] or '0', facts[3] or '0', redis.call('ZCOUNT', readers, now, '+inf'), out,
  facts[4] or '0', facts[5] or '0', facts[6] or '0'}
