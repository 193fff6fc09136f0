-- KEYS: the session.
local s, state = read(KEYS[1])
if state == 'foreign' then return {'B'} end
if state ~= 'live' then return {'G'} end
-- The clock of a new primary may be behind: a session in use must not end early for that.
s.accessed = math.max(s.accessed, now)
s.returned = true
-- First a command that is not refused if memory is short.
call('PEXPIREAT', KEYS[1], expires_at(s))
call('HSET', KEYS[1], '', header(s))
return {'O'}
