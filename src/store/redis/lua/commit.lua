-- KEYS: the session; where it moves to, if it does. While a cluster moves their slot, no server has
--   both: then only the first is declared, and the other is made by copying where new keys are made.
-- ARGV: 1 whether this was tried before, 2 the attempt, 3 the stamp of the base, 4 its version,
--   5 'create', 'update' or (an update that adds no value) 'keep', 6 idle time of the session's own in
--   ms ('': as it is), 7 absolute lifetime in ms, 8 idle time of a first visit, 9 the attribute that
--   is expected ('': none), 10 the stamp that its last write must have ('': none), or at a birth the
--   idle time that sessions are made with, 11 life of a tombstone in ms, 12 where it moves to
--   ('': nowhere), then attributes and what they hold.
local key, successor, op = KEYS[1], ARGV[12] ~= '' and ARGV[12], ARGV[2]
local base_version = tonumber(ARGV[4])
local target = successor or key

local function answer(s, full)
  local head = header(s)
  if full then return {'F', tostring(now), redis.call('HGETALL', target)} end
  return {'O', tostring(now), head}
end

local s, state = read(key)
if state == 'foreign' then return {'B'} end
if ARGV[1] == '1' then
  if state == 'live' then
    if applied(s, op) then target = key; return answer(s, true) end
    if base_version >= 0 and s.version >= base_version + OPS_MAX then return {'U'} end
  elseif successor then
    local moved, there = read(successor)
    if there == 'live' and applied(moved, op) then return answer(moved, true) end
  end
end

local before = ''
if ARGV[5] == 'create' then
  if state == 'live' then return {'E', tostring(now), redis.call('HGETALL', key)} end
  if state == 'tombstone' then return {'G'} end
  local absolute = tonumber(ARGV[7])
  s = {
    returned = false, version = 0, writer = op, created = now, ends = now + absolute,
    accessed = now, idle = NONE, idle_stamp = string.rep('\0', 10), first = tonumber(ARGV[8]),
    ops = ''
  }
  s.idle = tonumber(ARGV[10])
else
  if state ~= 'live' then return {'G'} end
  before = struct.pack('>I6', s.version) .. s.writer
  if ARGV[9] ~= '' then
    local last = string.sub(redis.call('HGET', key, ARGV[9]) or '', 1, 10)
    if last ~= ARGV[10] then return {'E', tostring(now), redis.call('HGETALL', key)} end
  end
  s.accessed = math.max(s.accessed, now)
  s.returned = true
  -- Where memory is short this goes through, and what follows a write goes through as well: only
  -- what adds is refused.
  if ARGV[5] == 'keep' then redis.call('PEXPIRE', key, tonumber(ARGV[11])) end
end
if successor and redis.call('EXISTS', successor) == 1 then return {'B'} end

local writes = #ARGV > 12 or ARGV[6] ~= ''
local stamp
if writes then
  s.version = math.max(s.version, base_version) + 1
  s.writer = op
  stamp = struct.pack('>I6', s.version) .. op
  if ARGV[6] ~= '' then
    s.idle = tonumber(ARGV[6])
    s.idle_stamp = stamp
  end
end
s.ops = string.sub(s.ops .. op, -4 * OPS_MAX)

if successor then
  if KEYS[2] then
    redis.call('RENAME', key, successor)
  else
    local all = redis.call('HGETALL', key)
    for at = 1, #all, 1000 do
      redis.call('HSET', successor, unpack(all, at, math.min(at + 999, #all)))
    end
    redis.call('UNLINK', key)
  end
  bury(key, op, tonumber(ARGV[11]))
end
-- What is removed leaves nothing behind: changes come here, never another copy of the session.
local fields, removed = {'', header(s)}, {}
for at = 13, #ARGV, 2 do
  if ARGV[at + 1] == REMOVED then
    removed[#removed + 1] = ARGV[at]
  else
    fields[#fields + 1] = ARGV[at]
    fields[#fields + 1] = stamp .. ARGV[at + 1]
  end
  if #fields >= 1000 then
    redis.call('HSET', target, unpack(fields))
    fields = {}
  end
  if #removed >= 1000 then
    redis.call('HDEL', target, unpack(removed))
    removed = {}
  end
end
if #removed > 0 then redis.call('HDEL', target, unpack(removed)) end
if #fields > 0 then redis.call('HSET', target, unpack(fields)) end
local reply = answer(s, ARGV[5] ~= 'create' and before ~= ARGV[3])
redis.call('PEXPIREAT', target, expires_at(s))
return reply
