//! The sessions that a node holds: 16,384 slots, each under its own lock.
//!
//! A slot is the unit of locking, of the digest that two nodes compare, of hand-over and of
//! sweeping. Slots are gathered in groups that remember whether anything is in them and when the
//! earliest entry may be forgotten, so that walking an almost empty table costs almost nothing.
//!
//! It promises that the counters match the contents, and that every change of an entry changes the
//! slot's digest. It does not decide who holds what, and never looks at a clock.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::StoreErrorKind;
use crate::session::{Changes, Outcome, Record, SLOTS, SessionKey, Stamp, Timestamp, Writer};

use super::entry::{Entry, Fragment, Tombstone};
use super::message::Copy;
use super::rules::Rules;
use super::split::Split;

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Box<[Mutex<Slot>]>,
    groups: Box<[Group]>,
    /// Where the next sweep begins; counts on and on.
    next_group: AtomicUsize,
    live: AtomicUsize,
    fragments: AtomicUsize,
    dead: AtomicUsize,
    bytes: AtomicUsize,
    max_sessions: usize,
    max_bytes: usize,
    rules: Rules,
    /// While members are out of reach: what is written on this side.
    split: Mutex<Option<Split>>,
    is_split: AtomicBool,
    discarded: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    entries: BTreeMap<SessionKey, Entry>,
    /// The sum of the entries' versions.
    digest: u64,
}

/// What is known of [`GROUP`] neighbouring slots without locking them.
#[derive(Debug)]
struct Group {
    entries: AtomicUsize,
    /// No entry may be forgotten before this.
    forget_at: AtomicU64,
}

/// A commit's result, and what the other holders are to merge.
pub(crate) type Committed = (Outcome, Option<Arc<[Copy]>>);

impl Table {
    pub(crate) fn new(max_sessions: usize, max_bytes: usize, rules: Rules) -> Self {
        let group = || Group {
            entries: AtomicUsize::new(0),
            forget_at: AtomicU64::new(u64::MAX),
        };
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            groups: (0..SLOTS / GROUP).map(|_| group()).collect(),
            next_group: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            fragments: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_sessions,
            max_bytes,
            rules,
            split: Mutex::default(),
            is_split: AtomicBool::new(false),
            discarded: AtomicU64::new(0),
        }
    }

    /// Whole sessions here, expired ones included until they are swept.
    pub(crate) fn sessions(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn tombstones(&self) -> usize {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Concurrent writes of the two sides of a split of which one was discarded.
    pub(crate) fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Members are out of reach: what is written from now on, `writers` write on this side.
    pub(crate) fn part(&self, writers: impl Iterator<Item = Writer>) {
        let mut split = self.split();
        let split = split.get_or_insert_default();
        writers.for_each(|writer| split.joined(writer));
        self.is_split.store(true, Ordering::Relaxed);
    }

    /// Both sides have compared what they have.
    pub(crate) fn reunite(&self) {
        self.is_split.store(false, Ordering::Relaxed);
        *self.split() = None;
    }

    fn split(&self) -> MutexGuard<'_, Option<Split>> {
        // A panic under this lock (an allocation, say) leaves a count too low.
        self.split.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While there is a split: takes note of a change of a session, and of what it pushes aside.
    fn note_change(&self, key: SessionKey, before: &Entry, theirs: Option<&Entry>) {
        let Entry::Live(before) = before else {
            return;
        };
        if let Some(split) = &mut *self.split() {
            if let Some(Entry::Live(theirs)) = theirs {
                let discarded = split.concurrent(&key, before, theirs);
                self.discarded.fetch_add(discarded, Ordering::Relaxed);
            }
            split.changes(key, before);
        }
    }

    /// The session, if it is here, whole and alive.
    pub(crate) fn look(&self, now: Timestamp, key: &SessionKey) -> Option<Arc<Record>> {
        self.lock(key.slot()).entries.get(key)?.live(now).cloned()
    }

    /// The session, under the id that it has been moved to meanwhile.
    pub(crate) fn follow(
        &self,
        now: Timestamp,
        mut key: SessionKey,
    ) -> Option<(SessionKey, Arc<Record>)> {
        let slot = self.lock(key.slot());
        for _ in 0..MOVES_MAX {
            match slot.entries.get(&key)? {
                Entry::Dead(tombstone) => key = tombstone.successor?,
                entry => return Some((key, entry.live(now)?.clone())),
            }
        }
        None
    }

    /// Whether the session is here, and nobody may use it any more as far as this node knows.
    pub(crate) fn has_run_out(&self, now: Timestamp, key: &SessionKey) -> bool {
        match self.lock(key.slot()).entries.get(key) {
            Some(Entry::Live(record)) => !record.is_live(now) && now < record.ends_at(),
            Some(Entry::Fragment(_) | Entry::Dead(_)) | None => false,
        }
    }

    /// Whether the session has certainly ended, or moved.
    pub(crate) fn is_dead(&self, key: &SessionKey) -> bool {
        matches!(self.lock(key.slot()).entries.get(key), Some(Entry::Dead(_)))
    }

    /// What is here under the key, to be shown to another node.
    pub(crate) fn copy(&self, now: Timestamp, key: &SessionKey) -> Option<Copy> {
        let entry = self.lock(key.slot()).entries.get(key)?.clone();
        (entry.forget_at() > now).then_some(Copy { key: *key, entry })
    }

    /// Applies what a request did to the session as it is here. New ids are the owner's business.
    pub(crate) fn commit(
        &self,
        now: Timestamp,
        key: &SessionKey,
        base: Option<&Record>,
        changes: &Changes,
        writer: Writer,
    ) -> Result<Committed, StoreErrorKind> {
        let mut slot = self.lock(key.slot());
        let current = match slot.entries.get(key) {
            Some(entry @ (Entry::Live(_) | Entry::Dead(_))) => Some(entry),
            // An unfinished part is nothing that a request may build upon.
            Some(Entry::Fragment(_)) | None => None,
        };
        let record = current.and_then(|entry| entry.live(now));
        if changes.is_create() && self.is_full(changes.payload_bytes()) {
            return Err(StoreErrorKind::Full);
        }
        let outcome = match current {
            Some(Entry::Dead(_)) => Outcome::Gone,
            _ => changes.apply(record, base, now, writer),
        };
        let Outcome::Committed(after) = &outcome else {
            return Ok((outcome, None));
        };
        if let Some(before) = current
            && self.is_split.load(Ordering::Relaxed)
        {
            self.note_change(*key, before, None);
        }
        let live = Entry::Live(after.clone());
        let news = if changes.is_create() {
            live.clone()
        } else {
            Entry::Fragment(Arc::new(written(changes, after)))
        };
        self.put(&mut slot, *key, live);
        let copies = [Copy {
            key: *key,
            entry: news,
        }]
        .into();
        Ok((outcome, Some(copies)))
    }

    /// Ends a session. Gives the tombstone, if there was one to end.
    pub(crate) fn end(&self, now: Timestamp, key: &SessionKey) -> Option<Copy> {
        let mut slot = self.lock(key.slot());
        let entry = tombstone(slot.entries.get(key)?.live(now)?, None);
        self.put(&mut slot, *key, entry.clone());
        Some(Copy { key: *key, entry })
    }

    /// Records an access. Says whether there was a session to record it for.
    pub(crate) fn touch(&self, now: Timestamp, key: &SessionKey, accessed_at: Timestamp) -> bool {
        let mut slot = self.lock(key.slot());
        match slot.entries.get_mut(key) {
            Some(Entry::Live(record)) if record.is_live(now) => {
                Arc::make_mut(record).touch(accessed_at);
                true
            }
            _ => false,
        }
    }

    /// Takes over what another node knows. Its points in time must have been rebased.
    pub(crate) fn merge(&self, now: Timestamp, copy: &Copy) {
        let mut slot = self.lock(copy.key.slot());
        match &copy.entry {
            Entry::Dead(tombstone) => self.bury(&mut slot, now, copy.key, tombstone),
            Entry::Live(_) | Entry::Fragment(_) => {
                self.take_in(&mut slot, now, copy.key, &copy.entry);
            }
        }
    }

    /// Takes in a session or a part of one, under the id that it has been moved to meanwhile.
    fn take_in(&self, slot: &mut Slot, now: Timestamp, mut key: SessionKey, news: &Entry) {
        for _ in 0..MOVES_MAX {
            let merged = match slot.entries.get(&key) {
                None if news.forget_at() <= now => return,
                None => news.clone(),
                Some(Entry::Dead(tombstone)) => match tombstone.successor {
                    Some(successor) if successor.slot() == key.slot() => {
                        key = successor;
                        continue;
                    }
                    _ => return,
                },
                Some(entry) => {
                    if self.is_split.load(Ordering::Relaxed) {
                        self.note_change(key, entry, Some(news));
                    }
                    let mut entry = entry.clone();
                    if !entry.merge(news) {
                        return;
                    }
                    entry
                }
            };
            return self.put(slot, key, merged);
        }
    }

    /// Takes note that an id is dead. What is here under it goes where the session has gone. An
    /// ended session is ended under every id that somebody has moved it to without knowing; of two
    /// moves at once, one wins, the same one everywhere.
    fn bury(&self, slot: &mut Slot, now: Timestamp, key: SessionKey, news: &Tombstone) {
        let mut burials = vec![(key, news.clone())];
        for _ in 0..MOVES_MAX {
            let Some((key, news)) = burials.pop() else {
                return;
            };
            if news.until <= now {
                continue;
            }
            match slot.entries.get(&key).cloned() {
                Some(Entry::Dead(known)) => {
                    let winner = match (known.successor, news.successor) {
                        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
                        _ => None,
                    };
                    let until = known.until.max(news.until);
                    for loser in [known.successor, news.successor].into_iter().flatten() {
                        if Some(loser) != winner && loser != key && loser.slot() == key.slot() {
                            let successor = winner;
                            burials.push((loser, Tombstone { until, successor }));
                        }
                    }
                    let dead = Tombstone {
                        until,
                        successor: winner,
                    };
                    if *known != dead {
                        self.put(slot, key, Entry::Dead(Box::new(dead)));
                    }
                }
                before => {
                    self.put(slot, key, Entry::Dead(Box::new(news)));
                    if let Some(before) = before {
                        self.take_in(slot, now, key, &before);
                    }
                }
            }
        }
    }

    /// The digests of all slots that are wanted and not empty.
    pub(crate) fn digests(&self, wanted: impl Fn(usize) -> bool) -> Vec<(u16, u64)> {
        let mut digests = Vec::new();
        for slot in self.occupied() {
            let guard = self.lock(slot);
            if !guard.entries.is_empty() && wanted(slot) {
                digests.push((slot as u16, guard.digest));
            }
        }
        digests
    }

    /// The wanted slots in which this table has something that one with those digests has not.
    pub(crate) fn differing(
        &self,
        digests: &[(u16, u64)],
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<u16> {
        let theirs: BTreeMap<_, _> = digests.iter().copied().collect();
        let differs = |(slot, digest): &(u16, u64)| theirs.get(slot) != Some(digest);
        let ours = self.digests(wanted).into_iter();
        ours.filter(differs).map(|(slot, _)| slot).collect()
    }

    /// Forgets the slots that are not wanted: others have all of them.
    pub(crate) fn retain(&self, wanted: impl Fn(usize) -> bool) {
        for slot in self.occupied() {
            let mut guard = self.lock(slot);
            if guard.entries.is_empty() || wanted(slot) {
                continue;
            }
            for (key, entry) in std::mem::take(&mut guard.entries) {
                self.uncount(&mut guard, &key, &entry);
            }
        }
    }

    /// How many live sessions are in the slots of which `asked` says yes.
    pub(crate) fn sessions_in(&self, asked: impl Fn(usize) -> bool) -> usize {
        let live = |entry: &&Entry| matches!(entry, Entry::Live(_));
        let count = |slot| self.lock(slot).entries.values().filter(live).count();
        self.occupied().filter(|slot| asked(*slot)).map(count).sum()
    }

    /// The versions of a slot's entries after a key.
    pub(crate) fn versions(&self, slot: u16, after: Option<SessionKey>) -> Vec<(SessionKey, u64)> {
        let guard = self.lock(usize::from(slot));
        let entries = guard.entries.range(from(after));
        entries
            .map(|(key, entry)| (*key, entry.version(key)))
            .collect()
    }

    /// Entries of a slot after a key that are not among `known`, as many as `max_bytes` takes and
    /// at least one. Says whether there are more.
    pub(crate) fn unknown(
        &self,
        now: Timestamp,
        slot: u16,
        after: Option<SessionKey>,
        known: &[(SessionKey, u64)],
        max_bytes: usize,
    ) -> (Vec<Copy>, bool) {
        let known: BTreeMap<_, _> = known.iter().copied().collect();
        let guard = self.lock(usize::from(slot));
        let mut copies = Vec::new();
        let mut bytes = 0;
        for (key, entry) in guard.entries.range(from(after)) {
            if entry.forget_at() <= now || known.get(key) == Some(&entry.version(key)) {
                continue;
            }
            if bytes >= max_bytes {
                return (copies, true);
            }
            bytes += entry.weight();
            copies.push(Copy {
                key: *key,
                entry: entry.clone(),
            });
        }
        (copies, false)
    }

    /// Forgets what has run out: in a small table all of it, in a large one as much as can be looked
    /// through in a short while, going on there the next time.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let mut looked_at = 0;
        for _ in 0..self.groups.len() {
            let group = self.next_group.fetch_add(1, Ordering::Relaxed) % self.groups.len();
            if self.groups[group].forget_at.load(Ordering::Relaxed) <= now.as_millis() {
                looked_at += self.sweep_group(now, group);
            }
            if looked_at >= SWEEP_MAX {
                return;
            }
        }
    }

    /// Forgets what has run out in a group. Says how many entries it has looked at.
    fn sweep_group(&self, now: Timestamp, group: usize) -> usize {
        let mut looked_at = 0;
        // Whatever is put in from now on lowers the mark again.
        self.groups[group]
            .forget_at
            .store(u64::MAX, Ordering::Relaxed);
        for slot in group * GROUP..(group + 1) * GROUP {
            let mut guard = self.lock(slot);
            looked_at += guard.entries.len();
            let due =
                |(key, entry): (&SessionKey, &Entry)| (entry.forget_at() <= now).then_some(*key);
            let run_out: Vec<_> = guard.entries.iter().filter_map(due).collect();
            for key in run_out {
                if let Some(entry) = guard.entries.remove(&key) {
                    self.uncount(&mut guard, &key, &entry);
                }
            }
            if let Some(next) = guard.entries.values().map(Entry::forget_at).min() {
                self.remind(slot, next);
            }
        }
        looked_at
    }

    fn occupied(&self) -> impl Iterator<Item = usize> {
        let occupied = |group: &usize| self.groups[*group].entries.load(Ordering::Relaxed) > 0;
        let groups = (0..self.groups.len()).filter(occupied);
        groups.flat_map(|group| group * GROUP..(group + 1) * GROUP)
    }

    fn put(&self, slot: &mut Slot, key: SessionKey, entry: Entry) {
        self.counter(&entry).fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(entry.weight(), Ordering::Relaxed);
        self.groups[key.slot() / GROUP]
            .entries
            .fetch_add(1, Ordering::Relaxed);
        self.remind(key.slot(), entry.forget_at());
        slot.digest = slot.digest.wrapping_add(entry.version(&key));
        if let Some(before) = slot.entries.insert(key, entry) {
            self.uncount(slot, &key, &before);
        }
        if !self.rules.tombstones
            && let Some(entry @ Entry::Dead(_)) = slot.entries.get(&key).cloned()
        {
            slot.entries.remove(&key);
            self.uncount(slot, &key, &entry);
        }
    }

    fn uncount(&self, slot: &mut Slot, key: &SessionKey, entry: &Entry) {
        self.counter(entry).fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(entry.weight(), Ordering::Relaxed);
        self.groups[key.slot() / GROUP]
            .entries
            .fetch_sub(1, Ordering::Relaxed);
        slot.digest = slot.digest.wrapping_sub(entry.version(key));
    }

    fn counter(&self, entry: &Entry) -> &AtomicUsize {
        match entry {
            Entry::Live(_) => &self.live,
            Entry::Fragment(_) => &self.fragments,
            Entry::Dead(_) => &self.dead,
        }
    }

    fn remind(&self, slot: usize, at: Timestamp) {
        self.groups[slot / GROUP]
            .forget_at
            .fetch_min(at.as_millis(), Ordering::Relaxed);
    }

    /// Whether one more session, or `more` bytes, are too much. Two requests that ask at the same
    /// moment may both be let in: the limit is exceeded by no more than the requests under way.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.sessions() >= self.max_sessions || self.bytes() + more > self.max_bytes
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, Slot> {
        // A panic under this lock (an allocation, say) leaves whole entries behind.
        self.slots[slot]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn from(after: Option<SessionKey>) -> (Bound<SessionKey>, Bound<SessionKey>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}

fn tombstone(record: &Record, successor: Option<SessionKey>) -> Entry {
    Entry::Dead(Box::new(Tombstone::of(record, successor)))
}

/// What a request wrote, as the other holders need it.
fn written(changes: &Changes, after: &Record) -> Fragment {
    let mut registers: Vec<_> = changes
        .writes()
        .iter()
        .filter_map(|(name, _)| after.register(name).cloned())
        .collect();
    registers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Fragment {
        registers,
        max_inactive: changes.max_inactive().map(|_| after.lifetime.max_inactive),
        accessed_at: after.last_accessed_at(),
        updates: Vec::<Stamp>::new(),
    }
}

/// Slots in a group.
const GROUP: usize = 64;

/// How often a session's id may change within the time that tombstones are kept, as far as late
/// writes are concerned: enough for one login and many rotations, and no endless walk.
const MOVES_MAX: usize = 256;

/// Entries that one sweep looks at before it stops: well below a millisecond. With twenty sweeps a
/// second a million sessions are looked through every twelve seconds.
const SWEEP_MAX: usize = 4_096;
