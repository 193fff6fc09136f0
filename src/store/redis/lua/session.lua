-- The start of every script: the format of a session's header, and the session's lifetime.
--
-- A session is a hash under its root. The field '' is its header, ':name' an attribute: the stamp
-- of its last write, one byte that marks a removed value, and the value. A header of the byte 'x'
-- and the attempt that ended the session is a tombstone.
--
-- A header has a fixed part, with the hash of the current secret, the time of the last rotation
-- (0: never), and the start of the absolute lifetime (0: with the session). It is followed by the
-- key of the session's user and the name of the application that created it, if it has them, and by
-- the latest attempts.
--
-- ARGV: 1 marks a retry, 2 the application's name ('': none).

local NONE = 281474976710655
local HEADER = '>BBI6c4I6I6I6I6c10I6c16I6I6'
local HEADER_BYTES = 80
local USER_BYTES = 16
local FORMAT = 2
local RETURNED = 1
local NAMED = 2
local BOUND = 4
local OPS_MAX = 8
-- The value of a removed attribute.
local REMOVED = '\0'

-- Runs a command; an error names it.
local function call(name, ...)
  local reply = redis.pcall(name, ...)
  if type(reply) == 'table' and reply.err then error('<' .. name .. '> ' .. reply.err, 0) end
  return reply
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The time at which a session expires.
local function expires_at(s)
  local idle = s.idle
  if not s.returned and s.first < idle then idle = s.first end
  if idle >= NONE then return s.ends end
  -- An access is recorded only when a tenth of the timeout, at most a minute, has passed since the
  -- last recorded one: without that time on top, a session would end this much too early.
  return math.min(s.accessed + idle + math.min(math.floor(idle / 10), 60000), s.ends)
end

-- The session under a key, and 'live', 'absent', 'tombstone', 'other' (another application's) or
-- 'foreign'.
local function read(key)
  local h = call('HGET', key, '')
  if not h then
    -- A hash without a header is not of this store: a creation would add fields to it and set its
    -- expiry.
    if call('EXISTS', key) == 1 then return nil, 'foreign' end
    return nil, 'absent'
  end
  if string.sub(h, 1, 1) == 'x' then return h, 'tombstone' end
  if #h < HEADER_BYTES or string.byte(h) ~= FORMAT then return nil, 'foreign' end
  local s, flags, _ = {}
  _, flags, s.version, s.writer, s.created, s.ends, s.accessed, s.idle, s.idle_stamp, s.first,
    s.secret, s.rotated, s.began = struct.unpack(HEADER, h)
  s.returned = flags % 2 == RETURNED
  local behind = HEADER_BYTES + 1
  s.user, s.application = '', ''
  if flags % 8 >= BOUND then
    s.user = string.sub(h, behind, behind + USER_BYTES - 1)
    if #s.user < USER_BYTES then return nil, 'foreign' end
    behind = behind + USER_BYTES
  end
  if flags % 4 >= NAMED then
    local length = string.byte(h, behind) or 0
    s.application = string.sub(h, behind + 1, behind + length)
    behind = behind + 1 + length
  end
  s.ops = string.sub(h, behind)
  -- A commit that fails after its first command may leave the key until the absolute deadline: the
  -- header decides.
  if expires_at(s) <= now then return nil, 'absent' end
  if s.application ~= '' and s.application ~= ARGV[2] then return nil, 'other' end
  return s, 'live'
end

local function header(s)
  local flags, name = s.returned and RETURNED or 0, ''
  if s.user ~= '' then flags = flags + BOUND end
  if s.application ~= '' then
    flags, name = flags + NAMED, string.char(#s.application) .. s.application
  end
  return struct.pack(HEADER, FORMAT, flags, s.version, s.writer, s.created, s.ends, s.accessed,
    s.idle, s.idle_stamp, s.first, s.secret, s.rotated, s.began) .. s.user .. name .. s.ops
end
