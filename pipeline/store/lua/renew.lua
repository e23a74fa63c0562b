#!lua flags=allow-oom
-- Renew one reader's leases, post its partitions' watermarks, and take the minimum over all partitions: every
-- change written before it is published. A partition that nobody reads holds it back; one that has no watermark
-- does not.
-- A watermark holds for the checkpoint it was reached with: where the stored one is another (a Redis that came
-- back older), it is not posted, and the answer says so.
--
-- Returns {partition still ours, 1 = its checkpoint is the one given, …}, or the error STATELOST
local leases      = key(1, 'hash', 'HGET HSET')       -- partition -> "epoch|expires_ms|owner"
local watermarks  = key(2, 'hash', 'HGET HSET HVALS') -- partition -> ms
local meta        = key(3, 'hash', 'HGET HSET')
local checkpoints = key(4, 'hash', 'HGET')            -- partition -> checkpoint
local work        = key(5, 'stream', 'EXISTS')
if checked() then return refused end
local secret, owner, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIRST, FIELDS = 4, 4 -- the partitions, in fours: name, epoch, checkpoint, watermark (ms)
local now = now_ms()

-- A watermark as it was posted; one that is damaged, or lies days ahead of every clock, proves nothing.
local DAY_MS = 86400000
local function posted(text)
  local ms = tonumber(text)
  return ms and ms >= 0 and ms <= now + DAY_MS and ms or 0
end

if redis.call('HGET', meta, 'secret') ~= secret or redis.call('EXISTS', work) == 0 then
  return redis.error_reply('STATELOST the state of this migration is gone')
end
local kept = {}
for i = FIRST, #ARGV, FIELDS do
  local partition, epoch, checkpoint, watermark_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if lease_of(leases, partition) == epoch then
    redis.call('HSET', leases, partition, string.format('%s|%d|%s', epoch, now + ttl_ms, owner))
    local same = redis.call('HGET', checkpoints, partition) == checkpoint
    local posted_ms = redis.call('HGET', watermarks, partition)
    if same and posted_ms and tonumber(watermark_ms) > posted(posted_ms) then
      redis.call('HSET', watermarks, partition, watermark_ms)
    end
    kept[#kept + 1] = partition
    kept[#kept + 1] = same and 1 or 0
  end
end
local least_ms
for _, posted_ms in ipairs(redis.call('HVALS', watermarks)) do
  local ms = posted(posted_ms)
  if not least_ms or ms < least_ms then least_ms = ms end
end
if least_ms then redis.call('HSET', meta, 'watermark_ms', string.format('%d', least_ms)) end
return kept
