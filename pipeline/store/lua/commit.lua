#!lua flags=allow-oom
-- Commit what validators found, entry by entry, each only if its history is unchanged and its entry is still
-- ours: new history, due time, finding, counters, gone from the work stream. Otherwise nothing of it.
-- May run at maxmemory, or a full Redis could never drain.
--
-- KEYS  1 work  2 due  3 history  4 ledger  5 findings  6 findings-since  7 findings-log  8 lag of this minute
--       9 late  10 keys-judged  11 dead
-- ARGV  1 group  2 now_ms  3 seconds the minute's lag is kept
--       4 the entries, one after the other (little endian): lengths of the six texts (u16 u16 u32 u32 u32 u16),
--       next look ms (i64), lag ms (i64, -1 = none), flags (u8: 1 = count the key as judged, 2 = dead letter:
--       its tally says what it held); then the texts: id, key, history before, history after ('' = closed),
--       finding ('' = as it is, '-' = recovered, else its JSON), tally
-- A tally is "field=delta field=delta …"; fields lag:N and late:N have their own hashes.
-- Returns {position of a refused entry (1 = the first), its history now, …}; entries no longer ours are left out
local entries, at, number = ARGV[4], 1, 0
local function text(length)
  at = at + length
  return string.sub(entries, at - length, at - 1)
end

local refused, judged, tallies, lag_ms_sum = {}, {}, {}, 0
while at <= #entries do
  local n1, n2, n3, n4, n5, n6, next_ms, lag_ms, flags
  n1, n2, n3, n4, n5, n6, next_ms, lag_ms, flags, at = struct.unpack('<I2I2I4I4I4I2i8i8B', entries, at)
  local id, key, before, after, finding, tally = text(n1), text(n2), text(n3), text(n4), text(n5), text(n6)
  number = number + 1
  local current = redis.call('HGET', KEYS[3], key) or ''
  if current ~= before then
    refused[#refused + 1] = number
    refused[#refused + 1] = current
  elseif redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    redis.call('XDEL', KEYS[1], id)
    if after == '' then
      redis.call('HDEL', KEYS[3], key)
    else
      redis.call('HSET', KEYS[3], key, after)
      redis.call('ZADD', KEYS[2], next_ms, key)
    end
    if finding == '-' then
      local since = redis.call('ZSCORE', KEYS[6], key)
      redis.call('XADD', KEYS[7], 'MAXLEN', '~', 10000, '*', 'k', key, 'since', since or ARGV[2], 'finding',
        redis.call('HGET', KEYS[5], key) or '')
      redis.call('HDEL', KEYS[5], key)
      redis.call('ZREM', KEYS[6], key)
    elseif finding ~= '' then
      redis.call('HSET', KEYS[5], key, finding)
      redis.call('ZADD', KEYS[6], 'NX', ARGV[2], key)
    end
    if flags % 2 == 1 then judged[#judged + 1] = key end
    if flags >= 2 then
      redis.call('XADD', KEYS[11], 'MAXLEN', '~', 10000, '*', 'k', key, 'history', before)
    end
    if lag_ms > 0 then lag_ms_sum = lag_ms_sum + lag_ms end
    tallies[tally] = (tallies[tally] or 0) + 1
  end
end

if lag_ms_sum > 0 then redis.call('HINCRBY', KEYS[4], 'lag_ms_sum', lag_ms_sum) end
for tally, times in pairs(tallies) do
  for field, delta in string.gmatch(tally, '(%S+)=(-?%d+)') do
    local count = tonumber(delta) * times
    local bucket = string.match(field, '^lag:(.+)')
    local late = string.match(field, '^late:(.+)')
    if bucket then
      redis.call('HINCRBY', KEYS[8], bucket, count)
      redis.call('EXPIRE', KEYS[8], ARGV[3])
    elseif late then
      if redis.call('HINCRBY', KEYS[9], late, count) == 0 then redis.call('HDEL', KEYS[9], late) end
    else
      redis.call('HINCRBY', KEYS[4], field, count)
    end
  end
end
for i = 1, #judged, 1000 do
  redis.call('PFADD', KEYS[10], unpack(judged, i, math.min(i + 999, #judged)))
end
return refused
