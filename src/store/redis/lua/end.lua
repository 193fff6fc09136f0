-- KEYS: the session. ARGV: 3 the attempt, 4 life of a tombstone in ms.
local s, state = read(KEYS[1])
if state == 'foreign' then return {'B'} end
if state == 'tombstone' then
  if ARGV[1] == '1' and s == 'x' .. ARGV[3] then return {'O'} end
  return {'G'}
end
if state ~= 'live' then return {'G'} end
call('UNLINK', KEYS[1])
bury(KEYS[1], ARGV[3], tonumber(ARGV[4]))
return {'O'}
