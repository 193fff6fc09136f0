//! Calls of request tasks: sessions are loaded, committed, touched and deleted.
//!
//! A call is answered from this node's table where that is certain. Otherwise it goes to the
//! engine, which asks the session's owner or the other members, and the caller waits for a reply.

use std::sync::Arc;

use crate::error::StoreErrorKind;
use crate::session::{
    Changes, Loaded, Outcome, Record, Root, SecretHash, Timestamp, access_version,
};

use crate::cluster::ack::Ack;
use crate::cluster::replica::Replica;
use crate::cluster::replica::event::Progress;
use crate::cluster::replica::message::{FIXED, KeyedEntry, OpId, Operation};
use crate::cluster::replica::peer_table::PeerSet;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::published::Published;
use crate::cluster::replica::reads::Wanted;
use crate::cluster::replica::table::Committed;
use crate::cluster::replica::updates::UpdateCall;

impl Replica {
    /// Starts to read a session.
    pub(crate) fn load(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Progress<Loaded> {
        let published = self.published();
        if !published.ready {
            return Progress::Rejected(StoreErrorKind::NotReady);
        }
        let secret = secret.filter(|_| self.table.rules.secrets());
        if published.complete && published.placement.is_local(key.slot()) {
            // The owner has every rotation. Another holder asks it if the secret is not the one
            // that it has: the rotation may not have arrived here.
            let is_owner = published.placement.owner(key.slot()) == MemberRef::Me;
            match self.peek(now, key).map(|record| record.loaded(secret, now)) {
                Some(loaded @ Loaded::Live(_)) => return Progress::Ready(loaded),
                Some(loaded) if is_owner && self.is_current(&published) => {
                    return Progress::Ready(loaded);
                }
                Some(_) => {}
                None if self.is_certain(now, key, &published) => {
                    return Progress::Ready(Loaded::Absent);
                }
                None => {}
            }
        }
        let wanted = Wanted {
            key: *key,
            secret: secret.copied(),
        };
        self.engine().read(now, op, wanted, &self.table);
        Progress::Pending(Loaded::Absent)
    }

    /// Returns the live session in this node's table.
    pub(crate) fn peek(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        self.table.peek(now, key)
    }

    /// Returns the live session in this node's table, if this node is a holder.
    pub(crate) fn get_if_holder(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        // A former holder keeps its copies until all members are complete, but receives no writes:
        // they may be outdated.
        let mine = self.published().placement.is_local(key.slot());
        mine.then(|| self.peek(now, key)).flatten()
    }

    /// Returns `true` if a session that is not here does not exist. Otherwise it may have been
    /// handed over since `published` was read, lost with failed nodes, or accessed elsewhere after
    /// it expired here.
    fn is_certain(&self, now: Timestamp, key: &Root, published: &Published) -> bool {
        let same_view = self.is_current(published);
        let lost = published.uncertain_until > now && !self.table.has_ended(key);
        published.complete && same_view && !lost && !self.table.may_be_stale(now, key)
    }

    /// Starts to commit changes. Changes with an expectation, rotations, and all changes of a
    /// session that this node does not hold, go to the session's owner.
    pub(crate) fn commit(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Progress<Outcome> {
        let published = self.published();
        if let Some(kind) = self.rejection(&published) {
            return Progress::Rejected(kind);
        }
        // Before the table is changed: a change that is here and may not be sent to the other
        // holders would be neither made nor refused.
        if !self.has_room(key, changes, &published) {
            return Progress::Rejected(StoreErrorKind::Unavailable);
        }
        // Only one of two concurrent rotations may win: the owner decides.
        let ordered = changes.required_version().is_some()
            || changes.rotation().is_some() && self.table.rules.ordered_rotations()
            || self
                .table
                .is_near_session_limit(key, changes.payload_bytes());
        // A creation needs no order. Roots of sessions are random, so no other node creates the
        // same one; two indexes of one user merge.
        if !published.placement.is_local(key.slot()) || ordered && !changes.is_create() {
            return self.update(now, op, key, base, changes, &published);
        }
        // The state here may be older than that at other holders, so no write is omitted as
        // redundant.
        let insisted = (!published.complete).then(|| changes.insist());
        let changes = insisted.as_ref().unwrap_or(changes);
        match self.commit_here(now, key, base, changes, &published) {
            Err(kind) => Progress::Rejected(kind),
            // `Gone` logs the client out. The session may be live at a holder that has a later
            // access, or still be on its way here.
            Ok((Outcome::Gone, None)) if !self.is_certain(now, key, &published) => {
                self.update(now, op, key, base, changes, &published)
            }
            Ok((outcome, None)) => Progress::Ready(outcome),
            Ok((outcome, Some(entries))) => {
                self.replicate(now, op, outcome, self.ack, self.min_copies, &entries)
            }
        }
    }

    /// Returns `true` if the budgets of the members that receive the change have room for it.
    fn has_room(&self, key: &Root, changes: &Changes, published: &Published) -> bool {
        let holders = published.placement.holders(key.slot());
        let to = match holders.owner {
            MemberRef::Peer(owner) if !holders.me => PeerSet::of(owner),
            MemberRef::Peer(_) | MemberRef::Me => holders.peers,
        };
        self.budget.admits(to, FIXED + changes.payload_bytes())
    }

    fn commit_here(
        &self,
        now: Timestamp,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        published: &Published,
    ) -> Result<Committed, StoreErrorKind> {
        let base = base.map(|base| &**base);
        self.table.commit(now, key, base, changes, published.writer)
    }

    /// Starts to delete a session. The value is `true` if a live session existed.
    ///
    /// A session that another call has deleted may still be alive at the other holders: this call
    /// waits for them too, so that its result holds on every node.
    pub(crate) fn delete(&self, now: Timestamp, op: OpId, key: &Root) -> Progress<bool> {
        let published = self.published();
        if !published.ready {
            return Progress::Rejected(StoreErrorKind::NotReady);
        }
        if published.placement.is_local(key.slot()) {
            match self.table.delete(now, key) {
                // A deletion waits for all holders, whatever `ack` is.
                // Too few nodes for `min_copies` do not hold it up: the logout would fail, and the
                // session stay valid.
                Some((keyed, existed)) => {
                    return self.replicate(now, op, existed, Ack::All, 0, &[keyed].into());
                }
                None if self.is_certain(now, key, &published) => return Progress::Ready(false),
                None => {}
            }
        }
        let call = UpdateCall {
            op,
            key: *key,
            seen: 0,
            changes: &Changes::default(),
            order: Operation::Delete,
        };
        self.engine().update(now, call, &self.table);
        Progress::Pending(true)
    }

    /// Records an access.
    pub(crate) fn touch(&self, now: Timestamp, key: &Root) {
        let published = self.published();
        let mine = published.placement.is_local(key.slot());
        // A node that is not complete may lack a session that other holders have.
        let recorded = mine
            .then(|| self.table.touch(now, key, published.writer))
            .flatten();
        if published.ready && (recorded.is_some() || !mine || !published.complete) {
            let access = recorded.unwrap_or_else(|| access_version(now, published.writer));
            self.engine().touch(now, *key, access);
        }
    }

    fn update(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        published: &Published,
    ) -> Progress<Outcome> {
        let record = self.get_if_holder(now, key).or_else(|| base.cloned());
        let order = if changes.is_create() {
            match changes.apply_as(None, None, now, published.writer) {
                Outcome::Committed(record) if self.table.is_too_large_to_create(&record) => {
                    return Progress::Rejected(StoreErrorKind::TooLarge);
                }
                Outcome::Committed(record) => Operation::Create(record),
                outcome => return Progress::Ready(outcome),
            }
        } else {
            Operation::Update
        };
        let call = UpdateCall {
            op,
            key: *key,
            // The change must be later than both: its version is made here, and every holder would
            // drop it in favor of the value that the request has replaced.
            seen: [record.as_ref(), base]
                .into_iter()
                .flatten()
                .map(|record| record.clock())
                .max()
                .unwrap_or(0),
            changes,
            order,
        };
        self.engine().update(now, call, &self.table);
        // The owner's answer replaces this value.
        Progress::Pending(Outcome::Gone)
    }

    fn replicate<T>(
        &self,
        now: Timestamp,
        op: OpId,
        value: T,
        ack: Ack,
        min_copies: usize,
        entries: &Arc<[KeyedEntry]>,
    ) -> Progress<T> {
        let mut engine = self.engine();
        let wait = engine.write(now, op, ack, min_copies, entries, &self.table);
        self.publish(&engine);
        if wait {
            Progress::Pending(value)
        } else {
            Progress::Ready(value)
        }
    }

    fn rejection(&self, published: &Published) -> Option<StoreErrorKind> {
        if !published.ready {
            Some(StoreErrorKind::NotReady)
        } else if published.placement.candidates() < self.min_copies {
            Some(StoreErrorKind::Unavailable)
        } else {
            None
        }
    }
}
