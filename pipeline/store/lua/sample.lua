#!lua
-- Keep a sample of the figures in every tier, and forget those that are older than their tier is kept. A bucket that
-- holds one already keeps the greater of each number (core/samples.py).
--
-- Returns how many samples there are
local samples = key(1, 'hash', 'HGET HSET HKEYS HDEL') -- "<tier>:<bucket>" -> JSON: name -> number
local meta    = key(2, 'hash', 'EXISTS')
if checked() then return refused end
local at_ms, fresh = tonumber(ARGV[1]), cjson.decode(ARGV[2])
-- The tiers: width and how long they are kept (ms), two arguments each.
local oldest, widths = {}, {}
for i = 3, #ARGV, 2 do
  widths[#widths + 1] = tonumber(ARGV[i])
  oldest[#oldest + 1] = math.floor((at_ms - tonumber(ARGV[i + 1])) / tonumber(ARGV[i]))
end
if redis.call('EXISTS', meta) == 0 then return 0 end

local function greater(kept)
  for name, number in pairs(fresh) do
    if type(kept[name]) ~= 'number' or kept[name] < number then kept[name] = number end
  end
  return kept
end

local changed = {}
for tier, width in ipairs(widths) do
  local field = string.format('%d:%d', tier - 1, math.floor(at_ms / width))
  local kept = redis.call('HGET', samples, field)
  changed[field] = cjson.encode(greater(kept and cjson.decode(kept) or {}))
end
local names, old = redis.call('HKEYS', samples), {}
for _, field in ipairs(names) do
  local tier, bucket = string.match(field, '^(%d+):(%d+)$')
  local least = tier and oldest[tonumber(tier) + 1]
  if not least or tonumber(bucket) < least then old[#old + 1] = field end
end
for field, text in pairs(changed) do redis.call('HSET', samples, field, text) end
call_with_all('HDEL', samples, old)
return #names - #old
