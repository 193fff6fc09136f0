-- KEYS: the session; where it moves to, if it does. While a cluster moves their slot, no server has
--   both: then only the first is declared, and the other is made by copying where new keys are made.
-- ARGV: 3 the attempt, 4 the stamp of the base, 5 its version, 6 'create', 'update' or (an update
--   that adds no value) 'keep', 7 idle time of the session's own in ms ('': as it is), 8 absolute
--   lifetime in ms, 9 idle time of a first visit, 10 the attribute that is expected ('': none), 11 the
--   stamp that its last write must have ('': none), or at a birth the idle time that sessions are made
--   with, 12 life of a tombstone in ms, 13 where it moves to ('': nowhere), then attributes and what
--   they hold.
local key, successor, op = KEYS[1], ARGV[13] ~= '' and ARGV[13], ARGV[3]
local base_version = tonumber(ARGV[5])
local target = successor or key

local function answer(s, full)
  local head = header(s)
  if full then return {'F', tostring(now), call('HGETALL', target)} end
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
if ARGV[6] == 'create' then
  if state == 'live' then return {'E', tostring(now), call('HGETALL', key)} end
  if state ~= 'absent' then return {'G'} end
  local absolute = tonumber(ARGV[8])
  s = {
    returned = false, version = 0, writer = op, created = now, ends = now + absolute,
    accessed = now, idle = NONE, idle_stamp = string.rep('\0', 10), first = tonumber(ARGV[9]),
    application = ARGV[2], ops = ''
  }
  s.idle = tonumber(ARGV[11])
else
  if state ~= 'live' then return {'G'} end
  before = struct.pack('>I6', s.version) .. s.writer
  if ARGV[10] ~= '' then
    local last = string.sub(call('HGET', key, ARGV[10]) or '', 1, 10)
    if last ~= ARGV[11] then return {'E', tostring(now), call('HGETALL', key)} end
  end
  s.accessed = math.max(s.accessed, now)
  s.returned = true
  -- Where memory is short this goes through, and what follows a write goes through as well: only
  -- what adds is refused.
  if ARGV[6] == 'keep' then call('PEXPIRE', key, tonumber(ARGV[12])) end
end
if successor and call('EXISTS', successor) == 1 then return {'B'} end

local writes = #ARGV > 13 or ARGV[7] ~= ''
local stamp
if writes then
  s.version = math.max(s.version, base_version) + 1
  s.writer = op
  stamp = struct.pack('>I6', s.version) .. op
  if ARGV[7] ~= '' then
    s.idle = tonumber(ARGV[7])
    s.idle_stamp = stamp
  end
end
s.ops = string.sub(s.ops .. op, -4 * OPS_MAX)

if successor then
  if KEYS[2] then
    call('RENAME', key, successor)
  else
    local all = call('HGETALL', key)
    for at = 1, #all, 1000 do
      call('HSET', successor, unpack(all, at, math.min(at + 999, #all)))
    end
    call('UNLINK', key)
  end
  bury(key, op, tonumber(ARGV[12]))
end
-- What is removed leaves nothing behind: changes come here, never another copy of the session.
local fields, removed = {'', header(s)}, {}
for at = 14, #ARGV, 2 do
  if ARGV[at + 1] == REMOVED then
    removed[#removed + 1] = ARGV[at]
  else
    fields[#fields + 1] = ARGV[at]
    fields[#fields + 1] = stamp .. ARGV[at + 1]
  end
  if #fields >= 1000 then
    call('HSET', target, unpack(fields))
    fields = {}
  end
  if #removed >= 1000 then
    call('HDEL', target, unpack(removed))
    removed = {}
  end
end
if #removed > 0 then call('HDEL', target, unpack(removed)) end
if #fields > 0 then call('HSET', target, unpack(fields)) end
local reply = answer(s, ARGV[6] ~= 'create' and before ~= ARGV[4])
call('PEXPIREAT', target, expires_at(s))
return reply
