#!lua
-- Publish suspects of one partition: each begins a history of one version and is put to work. A key that has a
-- history is being judged: it is covered. Published again, a suspect stays as it is, so this may be repeated, and a
-- partition may be read again.
--
-- Returns {'published', suspects that wait, {position of a covered one (1 = the first), …}}, or {'fenced'}
local comparison   = key(1, 'hash', 'HMGET')
local leases       = key(2, 'hash', 'HGET')         -- ordinal -> "epoch|expires_ms|owner"
local histories    = key(3, 'hash', 'HGET HSET')    -- key -> history
local work         = key(4, 'stream', 'XADD')       -- one entry a key: {k: key, t: since when it is due (ms)}
local ledger       = key(5, 'hash', 'HMGET HINCRBY')
local keys_sampled = key(6, 'string', 'PFADD')      -- HyperLogLog
local due          = key(7, 'zset', 'ZREM')         -- key -> when to look next (ms)
local dead         = key(8, 'stream', 'XADD')       -- dead letters
if checked() then return refused end
local id, ordinal, epoch = ARGV[1], ARGV[2], ARGV[3]
-- The suspects, one after the other (little endian): length of the key (u16), digest of what the origin showed (16),
-- key.
local packed = ARGV[4]
local COUNTED = {'suspects_published', 'suspects_waiting', 'versions_published', 'outstanding'}
countable(ledger, COUNTED)
countable(ledger, {'dead_entries:poison'})
local now = now_ms()

if redis.call('HMGET', comparison, 'id')[1] ~= id or lease_of(leases, ordinal) ~= epoch then return {'fenced'} end

local function suspected(digest)
  return string.char(FORMAT, WAITING, bit.bor(INCOMPLETE, SUSPECT), 0, 0) .. string.rep('\0', HEADER_BYTES - AT_LO)
    .. digest .. struct.pack('<I8', now)
end

-- What will be written: histories of new suspects, histories that are to be looked at once more before they close.
local fresh, again, covered, place, number = {}, {}, {}, 1, 0
local begun, damaged = {}, {}
while place <= #packed do
  local length = struct.unpack('<I2', packed, place)
  local digest = string.sub(packed, place + 2, place + 17)
  local name = string.sub(packed, place + 18, place + 17 + length)
  place, number = place + 18 + length, number + 1
  local bytes = redis.call('HGET', histories, name)
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
    fresh[#fresh + 1] = {name, suspected(digest), bytes}
  elseif not ours and not begun[name] then
    covered[#covered + 1] = number
    if phase == SETTLING then
      again[#again + 1] = {name, string.sub(bytes, 1, AT_PHASE) .. string.char(bit.bor(flags, SETTLE))
        .. string.sub(bytes, AT_KIND)}
    end
  end
end

local names = {}
for _, one in ipairs(damaged) do bury_damaged(dead, ledger, due, one[1], one[2]) end
for _, one in ipairs(fresh) do
  names[#names + 1] = one[1]
  -- A key with a history is in `due` or in `work`, never in both.
  if not one[3] or redis.call('ZREM', due, one[1]) == 1 then
    redis.call('XADD', work, '*', 'k', one[1], 't', string.format('%d', now))
  end
  redis.call('HSET', histories, one[1], one[2])
end
for _, one in ipairs(again) do redis.call('HSET', histories, one[1], one[2]) end
in_slices(names, function(...) redis.call('PFADD', keys_sampled, ...) end)
if #fresh > 0 then
  for _, field in ipairs(COUNTED) do redis.call('HINCRBY', ledger, field, #fresh) end
end
return {'published', tonumber(redis.call('HMGET', ledger, 'suspects_waiting')[1] or 0), covered}
