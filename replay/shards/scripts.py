"""What runs inside Redis. Each script runs as a whole or not at all, also in the append-only file.

They touch keys of one run alone, which share a hash tag, so they are legal on a cluster; they take no clock and no
random number. Numbers come back as they were counted; `shard.py` turns them into words.
"""

# The counters are read once, changed as a table and written once. Drops the oldest chunk: its index entry first, then
# its body; returns its size, or nil when nothing is stored.
_COUNTING = """
local names = {'steps', 'bytes', 'chunks', 'episodes', 'inserted_steps', 'inserted_chunks'}

local function read_counters(key)
    local values, held = redis.call('HMGET', key, unpack(names)), {}
    for i, name in ipairs(names) do held[name] = tonumber(values[i] or 0) end
    return held
end

local function write_counters(key, held)
    local words = {}
    for i, name in ipairs(names) do words[2 * i - 1], words[2 * i] = name, string.format('%.0f', held[name]) end
    redis.call('HSET', key, unpack(words))
end

local function count(held, sign, size, steps, first_step)
    held.chunks, held.bytes, held.steps = held.chunks + sign, held.bytes + sign * size, held.steps + sign * steps
    if tonumber(first_step) == 0 then held.episodes = held.episodes + sign end
end

local function drop_oldest(prefix, index, held)
    local oldest = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1]
    if not oldest then return nil end
    local entry = {}
    for i = 1, #oldest[2], 2 do entry[oldest[2][i]] = oldest[2][i + 1] end
    redis.call('XDEL', index, oldest[1])
    redis.call('UNLINK', prefix .. 'chunk:' .. entry.id)
    count(held, -1, entry.bytes, entry.steps, entry.first_step)
    return tonumber(entry.bytes)
end
"""

# Replies of COMMIT: {code, numbers...}
BEFORE, STORED, CROWDED, HELD, LOST = 0, 1, 2, 3, 4

# A writer that names its epoch, token and last acknowledged chunk is checked: the shard must hold the data set and the
# life that it knows, and that chunk. A retry of a stored chunk changes nothing. Room is made in steps of at most
# `drops` chunks, so that no script holds the server for long.
COMMIT = (
    _COUNTING
    + """
local index, counters, committed, epoch, sampled, chunk = unpack(KEYS)
local prefix, my_epoch, token, acknowledged, life = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local seq, max_bytes, size, drops = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local ratio, min_steps, slack = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local elsewhere, body, id, episode, first_step, steps, source, version, checksum = unpack(ARGV, 13)

if my_epoch ~= '' then
    local known = redis.call('GET', epoch)
    if known ~= my_epoch then return {4, known and 1 or 0, -1} end
end
local last, owner = string.match(redis.call('HGET', committed, life) or '', '^(-?%d+):(.*)$')
last = tonumber(last or -1)
if token ~= '' and owner ~= token then return {4, 2, -1} end
if last < acknowledged then return {4, 2, last} end
if last >= seq then return {0} end

local held = read_counters(counters)
if ratio > 0 then
    local inserted, drawn = held.inserted_steps + elsewhere, 0
    for _, number in ipairs(redis.call('HVALS', sampled)) do drawn = drawn + number end
    local past = inserted + steps - min_steps
    if past > 0 and ratio * past - drawn > slack then return {3, inserted, drawn} end
end

while held.bytes + size > max_bytes do
    if drops == 0 then
        write_counters(counters, held)
        return {2}
    end
    if not drop_oldest(prefix, index, held) then break end
    drops = drops - 1
end
redis.call('SET', chunk, body)
held.inserted_steps, held.inserted_chunks = held.inserted_steps + steps, held.inserted_chunks + 1
redis.call('XADD', index, string.format('%.0f-1', held.inserted_chunks), 'id', id, 'episode', episode,
           'first_step', first_step, 'steps', steps, 'bytes', size, 'source', source, 'policy_version', version,
           'checksum', checksum)
redis.call('HSET', committed, life, seq .. ':' .. token)
count(held, 1, size, steps, first_step)
write_counters(counters, held)
return {1}
"""
)

# Drops the oldest chunks until `bytes` are free or `drops` are gone. Returns {chunks dropped, bytes freed}.
EVICT = (
    _COUNTING
    + """
local held, freed, dropped = read_counters(KEYS[2]), 0, 0
while freed < tonumber(ARGV[2]) and dropped < tonumber(ARGV[3]) do
    local size = drop_oldest(ARGV[1], KEYS[1], held)
    if not size then break end
    freed, dropped = freed + size, dropped + 1
end
if dropped > 0 then write_counters(KEYS[2], held) end
return {dropped, freed}
"""
)

# Gives a stream the life of this number, unless it had that one or a later one; `token` is the life's if it is to be
# committed here, empty elsewhere. Returns the stream's newest life: the number asked for if it was given.
BEGIN_LIFE = """
local incarnations, committed, stream, wanted, token = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local newest = tonumber(redis.call('HGET', incarnations, stream) or 0)
if wanted <= newest then return newest end
redis.call('HSET', incarnations, stream, wanted)
if token ~= '' then redis.call('HSET', committed, stream .. '/' .. wanted, '-1:' .. token) end
return 0
"""

# Counts the steps that a consumer has drawn so far, if the limiter lets it. Returns {1}, or {0, inserted, drawn,
# drawn by this consumer}.
# Absolute numbers, so that a retry counts once and a learner that resumes goes on from its checkpoint.
DRAW = """
local counters, sampled, consumer, total = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local ratio, min_steps, slack, elsewhere = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local inserted = tonumber(redis.call('HGET', counters, 'inserted_steps') or 0) + elsewhere
local drawn = 0
for _, number in ipairs(redis.call('HVALS', sampled)) do drawn = drawn + number end
local mine = tonumber(redis.call('HGET', sampled, consumer) or 0)
local ahead = drawn + total - mine - ratio * (inserted - min_steps)
if inserted < min_steps or (total > mine and ahead > slack) then return {0, inserted, drawn, mine} end
redis.call('HSET', sampled, consumer, ARGV[2])
return {1}
"""
