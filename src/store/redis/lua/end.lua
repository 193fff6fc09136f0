-- KEYS: the session. ARGV: 3 the attempt, 4 the lifetime of a tombstone in ms, 5 the origin of the
--   event ('': none), 6 the reason.
local key = KEYS[1]
local s, state = read(key)
if state == 'foreign' then return {'B'} end
if state == 'tombstone' then
  -- The answer to the first attempt was lost: this deletion has found a session.
  if ARGV[1] == '1' and s == 'x' .. ARGV[3] then return {'O'} end
  return {'G'}
end
if state ~= 'live' then return {'G'} end
-- First a command that is not refused if memory is short. The key is kept: a server whose slot is
-- being migrated creates no new keys.
call('PEXPIRE', key, tonumber(ARGV[4]))
call('HSET', key, '', 'x' .. ARGV[3])
local names = {}
for _, name in ipairs(call('HKEYS', key)) do
  if name ~= '' then names[#names + 1] = name end
end
for at = 1, #names, 1000 do
  call('HDEL', key, unpack(names, at, math.min(at + 999, #names)))
end
report(key, ARGV[3], ARGV[5], DELETED, tonumber(ARGV[6]), s)
return {'O'}
