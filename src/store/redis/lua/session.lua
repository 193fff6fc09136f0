-- What every script here begins with: a session's header, and how long the session lives.
--
-- A session is a hash. The field '' is its header, ':name' an attribute: the stamp of its last
-- write, one byte that says whether it has a value, and the value. A header of one byte 'x' and
-- what ended the session is a tombstone.

local NONE = 281474976710655
local HEADER = '>BBI6c4I6I6I6I6c10I6'
local HEADER_BYTES = 52
local FORMAT = 1
local RETURNED = 1
local OPS_MAX = 8
-- What an attribute holds that is removed.
local REMOVED = '\0'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- From when on a session is dead.
local function expires_at(s)
  local idle = s.idle
  if not s.returned and s.first < idle then idle = s.first end
  if idle >= NONE then return s.ends end
  return math.min(s.accessed + idle + math.min(math.floor(idle / 10), 60000), s.ends)
end

-- The session under a key, and 'live', 'absent', 'tombstone' or 'foreign'.
local function read(key)
  local h = redis.call('HGET', key, '')
  if not h then
    if redis.call('EXISTS', key) == 1 then return nil, 'foreign' end
    return nil, 'absent'
  end
  if string.sub(h, 1, 1) == 'x' then return h, 'tombstone' end
  if #h < HEADER_BYTES or string.byte(h) ~= FORMAT then return nil, 'foreign' end
  local s, flags, _ = {}
  _, flags, s.version, s.writer, s.created, s.ends, s.accessed, s.idle, s.idle_stamp, s.first =
    struct.unpack(HEADER, h)
  s.returned = flags % 2 == RETURNED
  s.ops = string.sub(h, HEADER_BYTES + 1)
  if expires_at(s) <= now then return nil, 'absent' end
  return s, 'live'
end

local function header(s)
  return struct.pack(HEADER, FORMAT, s.returned and RETURNED or 0, s.version, s.writer, s.created,
    s.ends, s.accessed, s.idle, s.idle_stamp, s.first) .. s.ops
end

-- Whether an attempt to commit has been applied already.
local function applied(s, op)
  for at = 1, #s.ops, 4 do
    if string.sub(s.ops, at, at + 3) == op then return true end
  end
  return false
end

-- Puts a tombstone where a session was.
local function bury(key, op, ms)
  redis.call('HSET', key, '', 'x' .. op)
  redis.call('PEXPIRE', key, ms)
end
