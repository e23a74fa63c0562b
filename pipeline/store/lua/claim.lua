#!lua flags=allow-oom
-- Claim work: promote keys that are due into the work stream (the one way into a validator), take over entries
-- whose validator went silent, read new entries, and hand them out with their histories. Most keys that are due
-- are settled and only to be forgotten: that is done here, which spares them the way to a validator and back.
-- May run at maxmemory, or a full Redis could never drain.
--
-- KEYS  1 work  2 due  3 history  4 meta  5 ledger
-- ARGV  1 group  2 consumer  3 how many  4 reclaim after ms (0 = do not look)  5 "adopt" = first claim of this
--       consumer: take back what an earlier life of it left pending
-- Returns {now_ms, watermark_ms, gap_ms, watched_since_ms, {id, key, history, deliveries, …}}; key or history may be false
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local wanted = tonumber(ARGV[3])

local FORMAT, SETTLING, SETTLE, HELD = 1, 1, 2, 8
-- Where core/history.py's `wake` closes without a look, whatever the moment.
local function is_over(history)
  return history and string.byte(history, 1) == FORMAT and string.byte(history, 2) == SETTLING
    and bit.band(string.byte(history, 3), SETTLE + HELD) == 0
end

local over, promoted = {}, 0
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 10 * wanted)) do
  if is_over(redis.call('HGET', KEYS[3], key)) then
    over[#over + 1] = key
  elseif promoted < wanted then
    promoted = promoted + 1
    redis.call('ZREM', KEYS[2], key)
    redis.call('XADD', KEYS[1], '*', 'k', key)
  end
end
for i = 1, #over, 1000 do -- in slices: unpack of a large table overflows the Lua stack
  local last = math.min(i + 999, #over)
  redis.call('HDEL', KEYS[3], unpack(over, i, last))
  redis.call('ZREM', KEYS[2], unpack(over, i, last))
end

local out = {}
local function take(entries, again)
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    local key = fields and fields[1] == 'k' and fields[2] or false
    local deliveries = 1
    if again then
      deliveries = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1][4]
    end
    out[#out + 1] = id
    out[#out + 1] = key
    out[#out + 1] = key and redis.call('HGET', KEYS[3], key) or false
    out[#out + 1] = deliveries
  end
  return #entries
end

local taken = 0
if ARGV[5] == 'adopt' then
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', wanted, 'STREAMS', KEYS[1], '0')
  if reply then taken = take(reply[1][2], true) end
end
if tonumber(ARGV[4]) > 0 and taken < wanted then
  local reply = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], '0-0', 'COUNT', wanted - taken)
  taken = taken + take(reply[2], true)
end
if taken > 0 then redis.call('HINCRBY', KEYS[5], 'entries_redelivered', taken) end
if taken < wanted then
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', wanted - taken, 'STREAMS', KEYS[1], '>')
  if reply then take(reply[1][2], false) end
end
local facts = redis.call('HMGET', KEYS[4], 'watermark_ms', 'gap_ms', 'watched_since_ms')
return {now, facts[1] or '0', facts[2] or '0', facts[3] or '0', out}
