-- KEYS: the session.
-- ARGV: 3 the attempt, 4 the stamp of the base, 5 its version, 6 'create', 'update' or (an update
--   that adds no value) 'keep', the last two with ' quietly' behind them if it is no access, 7 the
--   session's own idle timeout in ms ('': unchanged), 8 at a creation and a login the absolute
--   timeout in ms ('': unchanged), 9 the idle timeout of a first visit, 10 the attribute that is
--   expected ('': none), 11 the stamp that its last write must have ('': none), or at a creation
--   the idle timeout of new sessions, 12 the hash of the new secret ('': unchanged), 13 the one
--   that it replaces, 14 at a creation and a login the user ('': none), 15 the origin of an event
--   ('': none), then attributes with their values.
local key, op = KEYS[1], ARGV[3]
local base_version = tonumber(ARGV[5])
local rotates = ARGV[12] ~= ''

-- Returns true if this attempt has been applied already, which is possible for a first attempt too:
-- the network may deliver it after a retry on another connection. As marks may be equal by chance,
-- a first attempt is compared only with the commits since its base, which are few.
local function applied(s)
  local count = OPS_MAX
  if ARGV[1] ~= '1' and base_version >= 0 then count = math.max(s.version - base_version, 0) end
  for at = math.max(#s.ops - 4 * count, 0) + 1, #s.ops, 4 do
    if string.sub(s.ops, at, at + 3) == op then return true end
  end
  return false
end

local s, state = read(key)
if state == 'foreign' then return {'B'} end
if state == 'live' then
  if applied(s) then return {'F', tostring(now), call('HGETALL', key)} end
  -- After this many commits since the base, the mark of an earlier attempt may have been dropped.
  -- Applied again, it would overwrite what the others have written.
  if ARGV[1] == '1' and base_version >= 0 and s.version >= base_version + OPS_MAX then
    return {'U'}
  end
end

local before
if ARGV[6] == 'create' then
  if state == 'live' then return {'E', tostring(now), call('HGETALL', key)} end
  -- A creation that was delayed until after the session's deletion finds the tombstone: the session
  -- must not come back.
  if state ~= 'absent' then return {'G'} end
  s = {
    returned = false, version = 0, created = now, accessed = now, idle = tonumber(ARGV[11]),
    idle_stamp = string.rep('\0', 10), first = tonumber(ARGV[9]), rotated = 0, began = 0,
    application = ARGV[2], ops = ''
  }
else
  -- A write that arrives after a logout must not leave a session with this one attribute.
  if state ~= 'live' then return {'G'} end
  if ARGV[10] ~= '' then
    local last = string.sub(call('HGET', key, ARGV[10]) or '', 1, 10)
    if last ~= ARGV[11] then return {'E', tostring(now), call('HGETALL', key)} end
  end
  if rotates then
    -- Of two rotations of one secret, the second would otherwise replace the secret that the first
    -- one's browser is about to receive.
    if s.secret ~= ARGV[13] then return {'S'} end
    s.rotated = now
    if ARGV[8] ~= '' then s.began = now end
  end
  -- This is not refused if memory is short, and neither are the commands that follow a write: only
  -- additions are refused.
  if string.sub(ARGV[6], 1, 4) == 'keep' then call('PEXPIREAT', key, s.ends) end
  before = struct.pack('>I6', s.version) .. s.writer
  if not string.find(ARGV[6], 'quietly', 1, true) then
    -- The clock of a replica that has become the primary may be behind: the deadline must not move
    -- back.
    s.accessed = math.max(s.accessed, now)
    s.returned = true
  end
end

-- After a failover that has lost commits, the base may be later than the session: this commit would
-- look like an earlier state to requests that have seen the base.
s.version = math.max(s.version, base_version) + 1
s.writer = op
local stamp = struct.pack('>I6', s.version) .. op
if ARGV[7] ~= '' then
  s.idle = tonumber(ARGV[7])
  s.idle_stamp = stamp
end
if ARGV[8] ~= '' then s.ends, s.user = now + tonumber(ARGV[8]), ARGV[14] end
if rotates then s.secret = ARGV[12] end
s.ops = string.sub(s.ops .. op, -4 * OPS_MAX)
local head = header(s)

-- Removed attributes leave no mark: only changes are applied here, never another copy of a session.
local fields, removed = {'', head}, {}
for at = 16, #ARGV, 2 do
  if ARGV[at + 1] == REMOVED then
    removed[#removed + 1] = ARGV[at]
  else
    fields[#fields + 1] = ARGV[at]
    fields[#fields + 1] = stamp .. ARGV[at + 1]
  end
  -- In parts: `unpack` fails for thousands of values.
  if #fields >= 1000 then
    call('HSET', key, unpack(fields))
    fields = {}
  end
  if #removed >= 1000 then
    call('HDEL', key, unpack(removed))
    removed = {}
  end
end
if #removed > 0 then call('HDEL', key, unpack(removed)) end
if #fields > 0 then call('HSET', key, unpack(fields)) end
local reply = {'O', tostring(now), head}
-- Another commit came in between, so the caller cannot compose the session from its base. Read
-- before the expiry is set: with a shorter timeout that may remove the key.
if before and before ~= ARGV[4] then reply = {'F', tostring(now), call('HGETALL', key)} end
call('PEXPIREAT', key, expires_at(s))
local kind = rotates and ROTATED or LIFETIME
report(key, op, ARGV[15], ARGV[6] == 'create' and CREATED or kind, 0, s)
return reply
