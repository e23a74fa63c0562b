#!lua flags=allow-oom
-- Claim work: promote keys that are due into the work stream (the one way into a validator), take over entries
-- whose validator went silent, read new entries, and hand them out with their histories. Most keys that are due
-- are settled and only to be forgotten: that is done here, which spares them the way to a validator and back.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns {now_ms, watermark_ms, gap_ms, watched_since_ms, readers alive, {id, key, history, deliveries, …},
-- converge_within_ms, first_look_ms, adapted_ms: 0 where the deadline is fixed}; key or history may be false
local work    = key(1, 'stream', 'XADD XREADGROUP XAUTOCLAIM XPENDING XINFO|CONSUMERS XGROUP|DELCONSUMER') -- one entry a key: {k: key, t: since when it is due (ms)}
local due     = key(2, 'zset', 'ZRANGEBYSCORE ZREM')                     -- key -> when to look next (ms)
local history = key(3, 'hash', 'HGET HDEL')                              -- key -> history
local meta    = key(4, 'hash', 'HMGET')
local ledger  = key(5, 'hash', 'HINCRBY')
local readers = key(6, 'zset', 'ZCOUNT')                               -- reader -> alive until (ms)
if checked() then return refused end
local group, consumer, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
local reclaim_after_ms = tonumber(ARGV[4]) -- 0: do not look for entries of others
local adopt = ARGV[5] == 'adopt' -- the first claim of this consumer: take back what its earlier life left pending
local forget_after_ms = tonumber(ARGV[6]) -- a consumer that asked for nothing as long is gone
local now = now_ms()

-- Where the judging rule's `wake` closes without a look, whatever the moment.
local function is_over(bytes)
  return bytes and is_history(bytes)
    and string.byte(bytes, AT_PHASE) == SETTLING and bit.band(string.byte(bytes, AT_FLAGS), SETTLE + HELD) == 0
end

local over, promoted = {}, 0
local ready = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 10 * wanted)
for place = 1, #ready, 2 do
  local name, since = ready[place], string.format('%d', tonumber(ready[place + 1]))
  if is_over(redis.call('HGET', history, name)) then
    over[#over + 1] = name
  elseif promoted < wanted then
    promoted = promoted + 1
    redis.call('XADD', work, '*', 'k', name, 't', since)
    redis.call('ZREM', due, name)
  end
end
in_slices(over, function(...)
  redis.call('HDEL', history, ...)
  redis.call('ZREM', due, ...)
end)

local out = {}
local function take(entries, again)
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    local name = fields and fields[1] == 'k' and fields[2] or false
    local deliveries = 1
    if again then
      deliveries = redis.call('XPENDING', work, group, id, id, 1)[1][4]
    end
    out[#out + 1] = id
    out[#out + 1] = name
    out[#out + 1] = name and redis.call('HGET', history, name) or false
    out[#out + 1] = deliveries
  end
  return #entries
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

local taken = 0
if adopt then
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', work, '0')
  if reply then taken = take(reply[1][2], true) end
  forget_gone()
end
if reclaim_after_ms > 0 and taken < wanted then
  local reply = redis.call('XAUTOCLAIM', work, group, consumer, reclaim_after_ms, '0-0', 'COUNT', wanted - taken)
  taken = taken + take(reply[2], true)
end
if taken > 0 then redis.call('HINCRBY', ledger, 'entries_redelivered', taken) end
if taken < wanted then
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted - taken, 'STREAMS', work, '>')
  if reply then take(reply[1][2], false) end
end
local facts = redis.call('HMGET', meta, 'watermark_ms', 'gap_ms', 'watched_since_ms', 'converge_within_ms',
  'first_look_ms', 'adapted_ms')
return {now, facts[1] or '0', facts[2] or '0', facts[3] or '0', redis.call('ZCOUNT', readers, now, '+inf'), out,
  facts[4] or '0', facts[5] or '0', facts[6] or '0'}
