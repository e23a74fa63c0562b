-- What every script begins with: store/connection.py puts it behind the script's first line.
--
-- Redis does not roll a script back: a command that is refused in the middle leaves standing what was written
-- before it. So a script names its keys first, each with its type and what will be done with it, and `checked`
-- refuses the whole of it before anything is written.
--
-- The bytes of a history (codec.py); places count from 1, as Lua does.
local FORMAT = 2
local AT_FORMAT, AT_PHASE, AT_FLAGS, AT_KIND, AT_LO = 1, 2, 3, 4, 5
local AT_FIRST, AT_ALARMED, AT_SKIPPED, AT_LATE, AT_LOOKED_MS = 6, 10, 14, 18, 22
local HEADER_BYTES, EXCUSE_BYTES, HELD_BYTES, VERSION_BYTES, DIGEST_BYTES = 29, 12, 64, 24, 16
local WAITING, SETTLING, ALARMED, EXCUSED = 0, 1, 2, 3
local SETTLE, INCOMPLETE, HELD, EXCUSE, SUSPECT = 2, 4, 8, 16, 32
local UNKNOWN = string.rep('\255', 16)

-- The state's clock, as the caller knows it: the last argument of every call. Redis' own clock may step, so nothing
-- depends on it (clock.py).
local caller_now_ms = tonumber(table.remove(ARGV) or nil)
local function now_ms()
  return caller_now_ms
end

local refused = {}

-- The name of a key. kind: its type, as TYPE tells it (a HyperLogLog is a string), nil = any. commands: what is
-- done with it.
local function key(number, kind, commands)
  local name = KEYS[number]
  for command in string.gmatch(commands .. ' TYPE', '%S+') do
    local allowed
    if command == 'XREADGROUP' then -- its key stands behind a word
      allowed = redis.acl_check_cmd(command, 'GROUP', 'g', 'c', 'STREAMS', name, '>')
    elseif command == 'XGROUP' then
      allowed = redis.acl_check_cmd(command, 'CREATE', name, 'g', '0', 'MKSTREAM')
    elseif command == 'XGROUP|DELCONSUMER' then
      allowed = redis.acl_check_cmd('XGROUP', 'DELCONSUMER', name, 'g', 'c')
    elseif command == 'XINFO|CONSUMERS' then
      allowed = redis.acl_check_cmd('XINFO', 'CONSUMERS', name, 'g')
    else
      allowed = redis.acl_check_cmd(command, name)
    end
    if not allowed then refused[#refused + 1] = command .. ' on ' .. name end
  end
  if #refused == 0 then
    local found = redis.call('TYPE', name).ok
    if kind and found ~= 'none' and found ~= kind then
      error({err = 'WRONGTYPE ' .. name .. ' is a ' .. found .. ', not a ' .. kind})
    end
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
  if #bytes < HEADER_BYTES + VERSION_BYTES or string.byte(bytes, AT_FORMAT) ~= FORMAT then return false end
  local flags = string.byte(bytes, AT_FLAGS)
  local versions = (#bytes - HEADER_BYTES - (bit.band(flags, EXCUSE) ~= 0 and EXCUSE_BYTES or 0)
    - (bit.band(flags, HELD) ~= 0 and HELD_BYTES or 0)) / VERSION_BYTES
  return versions >= 1 and versions == math.floor(versions) and string.byte(bytes, AT_PHASE) <= EXCUSED
    and string.byte(bytes, AT_LO) <= versions
end

-- A history that is none becomes a dead letter. What it counted nobody can tell: it stays outstanding in the ledger.
local function bury_damaged(dead, ledger, due, name, bytes)
  redis.call('XADD', dead, 'MAXLEN', '~', 10000, '*', 'k', name, 'history', bytes)
  redis.call('HINCRBY', ledger, 'dead_entries:poison', 1)
  redis.call('ZREM', due, name)
end

-- Call with the list's items as arguments, a thousand at a time: unpack of a large table overflows the Lua stack.
local function in_slices(list, call)
  for first = 1, #list, 1000 do
    call(unpack(list, first, math.min(first + 999, #list)))
  end
end

-- Refuses the script, as `checked` does, when one of these fields of a hash cannot be counted up.
local function countable(name, fields)
  in_slices(fields, function(...)
    for i, value in ipairs(redis.call('HMGET', name, ...)) do
      if value and not string.match(value, '^-?%d+$') then
        error({err = 'ERR ' .. name .. ' holds no number at ' .. tostring(select(i, ...))})
      end
    end
  end)
end
