-- KEYS: the session. ARGV: 1 whether this was tried before, 2 the attempt, 3 life of a tombstone in
--   ms.
local s, state = read(KEYS[1])
if state == 'foreign' then return {'B'} end
if state == 'tombstone' then
  if ARGV[1] == '1' and s == 'x' .. ARGV[2] then return {'O'} end
  return {'G'}
end
if state == 'absent' then return {'G'} end
call('UNLINK', KEYS[1])
bury(KEYS[1], ARGV[2], tonumber(ARGV[3]))
return {'O'}
