#!lua
-- Publish suspects of one partition: each begins a history of one version and is put to work. A key that has a
-- history is being judged: it is covered. Published again, a suspect stays as it is, so this may be repeated, and a
-- partition may be read again.
--
-- Returns {'published', suspects that wait, {position of a covered one (1 = the first), …}}, or {'fenced'}
local comparison   = key(1, 'hash', 'HMGET')
local leases       = key(2, 'hash', 'HGET')         -- ordinal -> "epoch|expires_ms|owner"
local histories    = key(3, 'hash', 'HMGET HSET')   -- key -> history
local work         = key(4, 'stream', 'XADD')       -- entries that are due: {e: number, t: since when (ms)}
local ledger       = key(5, 'hash', 'HMGET HINCRBY')
local keys_sampled = key(6, 'string', 'PFADD')      -- HyperLogLog
local due          = key(7, 'zset', 'ZREM')         -- number of an entry -> when to look next (ms)
local dead         = key(8, 'stream', 'XADD')       -- dead letters
local meta         = key(9, 'hash', 'HMGET HINCRBY') -- entry: the last number; queued: keys in work
local entries      = key(10, 'hash', 'HSET HDEL')   -- number -> the keys of the entry
local left         = key(11, 'hash', 'HMGET HSET HDEL') -- number, of those in `due` -> how many stand in it still
if checked() then return refused end
local id, ordinal, epoch = ARGV[1], ARGV[2], ARGV[3]
-- The suspects, one after the other (little endian): length of the key (u16), digest of what the origin showed (16),
-- key.
local packed = ARGV[4]
local COUNTED = {'suspects_published', 'suspects_waiting', 'versions_published', 'outstanding'}
countable(ledger, COUNTED)
countable(ledger, {'dead_entries:poison'})
countable(meta, {'entry', 'queued'})
local now = now_ms()

if redis.call('HMGET', comparison, 'id')[1] ~= id or lease_of(leases, ordinal) ~= epoch then return {'fenced'} end

-- The history that begins with a suspect, but for its number.
local function suspected(digest)
  return string.char(FORMAT, WAITING, bit.bor(INCOMPLETE, SUSPECT), 0, 0) .. string.rep('\0', HEADER_BYTES - AT_LO)
    .. digest .. struct.pack('<I8', now)
end

local names, digests, place = {}, {}, 1
while place <= #packed do
  local length = struct.unpack('<I2', packed, place)
  digests[#digests + 1] = string.sub(packed, place + 2, place + 17)
  names[#names + 1] = string.sub(packed, place + 18, place + 17 + length)
  place = place + 18 + length
end

-- What will be written: histories of new suspects, histories that are to be looked at once more before they close.
local fresh, again, covered = {}, {}, {}
local begun, damaged = {}, {}
for number, bytes in ipairs(values_of(histories, names)) do
  local name = names[number]
  if bytes and not begun[name] and not is_history(bytes) then
    damaged[#damaged + 1] = {name, bytes}
    bytes = false
  end
  local phase = bytes and string.byte(bytes, AT_PHASE)
  local flags = bytes and string.byte(bytes, AT_FLAGS)
  local ours = bytes and bit.band(flags, SUSPECT) ~= 0
  if not begun[name] and (not bytes or ours and phase == SETTLING) then
    -- A suspect that was answered and differs again is a new one.
    begun[name] = true
    fresh[#fresh + 1] = {name = name, body = suspected(digests[number]), number = bytes and number_of(bytes)}
  elseif not ours and not begun[name] then
    covered[#covered + 1] = number
    if phase == SETTLING then
      again[#again + 1] = {name = name, bytes = sub(bytes, 1, AT_PHASE) .. string.char(bit.bor(flags, SETTLE))
        .. sub(bytes, AT_KIND)}
    end
  end
end

-- A key with a history stands in one entry, in `due` or in `work`: what waits there is looked at at once.
local numbers, departed = {}, {}
for _, one in ipairs(fresh) do
  if one.number then numbers[#numbers + 1] = one.number end
end
local waiting = still_waiting(left, numbers)
local groups = {}
local sampled = {}
for at, one in ipairs(fresh) do
  sampled[at] = one.name
  if not one.number or waiting[one.number] then look_together(groups, at, 'at once') end
  if one.number and waiting[one.number] then departed[one.number] = (departed[one.number] or 0) + 1 end
end
local made, number = numbered(meta, groups, sampled)

for _, one in ipairs(damaged) do bury_damaged(dead, ledger, one[1], one[2]) end
local stored = {}
for at, one in ipairs(fresh) do
  stored[#stored + 1] = one.name
  stored[#stored + 1] = (number[at] or one.number) .. one.body
end
for _, one in ipairs(again) do
  stored[#stored + 1] = one.name
  stored[#stored + 1] = one.bytes
end
call_with_all('HSET', histories, stored)
local at = {work = work, due = due, entries = entries, left = left}
depart(at, waiting, departed)
local at_work = written(at, made, string.format('%d', now))
if at_work > 0 then redis.call('HINCRBY', meta, 'queued', at_work) end
call_with_all('PFADD', keys_sampled, sampled)
if #fresh > 0 then
  for _, field in ipairs(COUNTED) do redis.call('HINCRBY', ledger, field, #fresh) end
end
return {'published', tonumber(redis.call('HMGET', ledger, 'suspects_waiting')[1] or 0), covered}
