-- Events: what happens to a session is published in the step in which it happens.
--
-- A message is read by `events/message.rs`. `origin` is an argument of the script: the channel
-- behind its length, and the node that sends the command; '' if nothing is to be published.

local MESSAGE = '>BBBI6I6I6'
local MESSAGE_FORMAT = 1
local CREATED, ROTATED, DELETED, EXPIRED, LIFETIME = 1, 2, 3, 4, 5

-- Publishes an event of the session under a key. The change has been made: a server that publishes
-- nothing, or not for this user, is no error.
local function report(key, op, origin, kind, reason, s)
  if origin == '' then return end
  local length = string.byte(origin)
  local channel = string.sub(origin, 2, length + 1)
  local message = struct.pack(MESSAGE, MESSAGE_FORMAT, kind, reason, now, expires_at(s), s.ends)
    .. op .. string.sub(key, -24) .. string.char(#s.user) .. s.user
    .. string.char(#s.application) .. s.application .. string.sub(origin, length + 2)
  -- A sharded channel reaches the servers of one shard only. A server before 7.0 does not know it,
  -- and one that does not own its slot refuses it.
  local all = string.match(channel, '^(.*):{')
  if all then
    local reply = redis.pcall('SPUBLISH', channel, message)
    if type(reply) ~= 'table' then return end
    channel = all
  end
  redis.pcall('PUBLISH', channel, message)
end
