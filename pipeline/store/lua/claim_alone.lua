#!lua flags=allow-oom
-- Hand out one of the entries that were in hand when validators died, the one that was tried least, and count it.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns as claim.lua does, with trials in the place of deliveries; no entry when none of them is this consumer's
-- any more.
local work     = key(1, 'stream', 'XCLAIM XPENDING')
local history  = key(2, 'hash', 'HMGET')
local meta     = key(3, 'hash', 'HMGET')
local tried    = key(4, 'hash', 'HMGET HINCRBY HDEL EXPIRE') -- entry -> how often it was tried alone
local readers  = key(5, 'zset', 'ZCOUNT') -- reader -> alive until (ms)
local entries  = key(6, 'hash', 'HMGET') -- number -> the keys of the entry
if checked() then return refused end
local group, consumer, kept_seconds = ARGV[1], ARGV[2], ARGV[3]
local survived = ARGV[4] -- the entry whose trial this consumer survived last, '' = none
local ids = {unpack(ARGV, 5)} -- the entries to choose from
local now = now_ms()

countable(tried, ids)
redis.call('HDEL', tried, survived)

local chosen, least
for _, id in ipairs(ids) do
  local trials = tonumber(redis.call('HMGET', tried, id)[1] or 0)
  if (not least or trials < least) and #redis.call('XPENDING', work, group, id, id, 1, consumer) == 1 then
    chosen, least = id, trials
  end
end

local out = {}
local entry = chosen and redis.call('XCLAIM', work, group, consumer, 0, chosen)[1]
if entry then
  local number = entry[2][1] == 'e' and entry[2][2]
  local packed = number and redis.call('HMGET', entries, number)[1]
  local names = keys_of(packed)
  local trials = redis.call('HINCRBY', tried, chosen, 1)
  redis.call('EXPIRE', tried, kept_seconds)
  out[1] = {chosen, number, trials, 1, names and packed, values_of(history, names or {})}
end
local facts = redis.call('HMGET', meta, 'watermark_ms', 'gap_ms', 'watched_since_ms', 'converge_within_ms',
  'first_look_ms', 'adapted_ms')
return {now, facts[1] or '0', facts[2] or '0', facts[3] or '0', redis.call('ZCOUNT', readers, now, '+inf'), out,
  facts[4] or '0', facts[5] or '0', facts[6] or '0'}
