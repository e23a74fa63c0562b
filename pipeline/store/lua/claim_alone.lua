#!lua flags=allow-oom
-- Hand out one of the entries that were in hand when validators died, the one that was tried least, and count it.
-- May run at maxmemory, or a full Redis could never drain.
--
-- Returns {now_ms, watermark_ms, gap_ms, watched_since_ms, readers alive, {id, key, history, trials},
-- converge_within_ms, first_look_ms, adapted_ms}, as claim.lua; {} instead of the entry when none of them is this
-- consumer's any more; key or history may be false
local work     = key(1, 'stream', 'XCLAIM XPENDING')
local history  = key(2, 'hash', 'HGET')
local meta     = key(3, 'hash', 'HMGET')
local tried    = key(4, 'hash', 'HMGET HINCRBY HDEL EXPIRE') -- entry -> how often it was tried alone
local readers  = key(5, 'zset', 'ZCOUNT') -- reader -> alive until (ms)
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
  local name = entry[2][1] == 'k' and entry[2][2] or false
  local trials = redis.call('HINCRBY', tried, chosen, 1)
  redis.call('EXPIRE', tried, kept_seconds)
  out = {chosen, name, name and redis.call('HGET', history, name) or false, trials}
end
local facts = redis.call('HMGET', meta, 'watermark_ms', 'gap_ms', 'watched_since_ms', 'converge_within_ms',
  'first_look_ms', 'adapted_ms')
return {now, facts[1] or '0', facts[2] or '0', facts[3] or '0', redis.call('ZCOUNT', readers, now, '+inf'), out,
  facts[4] or '0', facts[5] or '0', facts[6] or '0'}
