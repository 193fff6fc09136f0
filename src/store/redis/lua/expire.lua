-- KEYS: the session, the claim of its expiry. ARGV: 3 the attempt, 4 the lifetime of a claim in ms,
--   5 that of the claim of a tombstone, 6 the origin of the event ('': none), 7 the reason, 8 the
--   user ('': none).
--
-- Many nodes may notice that a session has expired. The one that sets the claim reports it. The end
-- of a tombstone is no expiry: its claim is set before, and lasts longer.
local key = KEYS[1]
local s, state = read(key)
if state == 'live' then return {'F', tostring(now), header(s)} end
if state == 'absent' or state == 'tombstone' then
  -- For a tombstone too: when the server removes it, its key is reported as expired. A node that
  -- has missed the deletion finds it here.
  local lifetime = state == 'tombstone' and ARGV[5] or ARGV[4]
  if call('SET', KEYS[2], ARGV[3], 'NX', 'PX', lifetime) and state == 'absent' then
    s = {
      returned = true, accessed = now, idle = 0, ends = now, user = ARGV[8], application = ARGV[2]
    }
    report(key, ARGV[3], ARGV[6], EXPIRED, tonumber(ARGV[7]), s)
  end
end
return {'G'}
