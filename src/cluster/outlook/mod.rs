//! State of the addresses at which other nodes may be, as found by resolving and dialing them.
//!
//! The tasks that resolve names and dial addresses report here. The replica receives a [summary],
//! on which the decision to serve is based.
//!
//! - An address is *closed* when it has refused three connections in a row over at least two
//!   seconds. A program that starts a little later than this one refuses connections, too.
//! - A name *does not resolve* when a name server has answered so three times over at least two
//!   seconds. A failure of the name server does not count as an answer.
//! - An address where anything else but a node answers counts as silent.
//!
//! [summary]: Outlook

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::session::Timestamp;
use crate::sync::lock;

use crate::cluster::replica::Outlook;
use crate::cluster::status::RefusedNode;
use crate::cluster::transport::{DialResult, Lookup, Rejection};

/// The relevant addresses and their state.
#[derive(Debug)]
pub(super) struct Addresses {
    state: Mutex<AddressTable>,
}

#[derive(Debug, Default)]
struct AddressTable {
    /// The configured names, as `host:port`.
    names: BTreeMap<String, NameState>,
    /// The members when this node was paused or declared down, until it serves again.
    former: BTreeSet<SocketAddr>,
    /// The result for each dialed address.
    results: HashMap<SocketAddr, DialRecord>,
    /// The summary that the replica last received.
    reported: Option<Outlook>,
}

/// The state of a name.
#[derive(Debug, Default)]
struct NameState {
    addresses: Vec<SocketAddr>,
    /// Since when it does not resolve.
    unresolved: Option<Streak>,
}

#[derive(Clone, Copy, Debug)]
struct DialRecord {
    result: DialResult,
    streak: Streak,
}

/// The number of consecutive equal results.
#[derive(Clone, Copy, Debug)]
struct Streak {
    first: Timestamp,
    last: Timestamp,
    times: u32,
}

impl Streak {
    const fn begin(now: Timestamp) -> Self {
        Self {
            first: now,
            last: now,
            times: 1,
        }
    }

    fn extend(&mut self, now: Timestamp) {
        self.last = now;
        self.times = self.times.saturating_add(1);
    }

    /// Returns `true` if there are enough results to rely on.
    fn is_conclusive(&self) -> bool {
        self.times >= CONCLUSIVE_TIMES && self.last.since(self.first) >= CONCLUSIVE_AFTER
    }
}

impl Addresses {
    pub(super) fn new(names: &[String]) -> Self {
        let names = names
            .iter()
            .map(|name| (name.clone(), NameState::default()));
        let state = AddressTable {
            names: names.collect(),
            ..AddressTable::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Records a lookup. A failure keeps the addresses of earlier lookups.
    pub(super) fn resolved(&self, now: Timestamp, name: &str, lookup: &Lookup) {
        let mut state = self.state();
        let Some(known) = state.names.get_mut(name) else {
            return;
        };
        match (lookup, &mut known.unresolved) {
            (Lookup::Addresses(addresses), _) => {
                known.addresses.clone_from(addresses);
                known.unresolved = None;
            }
            (Lookup::NotFound, Some(streak)) => streak.extend(now),
            (Lookup::NotFound, None) => {
                known.addresses.clear();
                known.unresolved = Some(Streak::begin(now));
            }
            (Lookup::Failure, _) => known.unresolved = None,
        }
    }

    /// Records the result of dialing an address.
    pub(super) fn dialed(&self, now: Timestamp, address: SocketAddr, result: DialResult) {
        let mut state = self.state();
        if state.results.len() >= RESULTS_MAX && !state.results.contains_key(&address) {
            return;
        }
        match state.results.get_mut(&address) {
            Some(found) if found.result == result => found.streak.extend(now),
            _ => {
                let streak = Streak::begin(now);
                state.results.insert(address, DialRecord { result, streak });
            }
        }
    }

    /// Called when an address is not dialed any more.
    pub(super) fn forget(&self, address: SocketAddr) {
        self.state().results.remove(&address);
    }

    /// Called when this node starts to join again, with the members that it had.
    pub(super) fn rejoin(&self, members: impl Iterator<Item = SocketAddr>) {
        self.state().former.extend(members.take(RESULTS_MAX));
    }

    /// Called when this node starts to serve.
    pub(super) fn joined(&self) {
        self.state().former.clear();
    }

    /// Returns the former members, which are dialed until their state is known.
    pub(super) fn former(&self) -> Vec<SocketAddr> {
        self.state().former.iter().copied().collect()
    }

    /// Returns the summary if it has changed since the last call. `is_mine` returns `true` for an
    /// address of this node.
    pub(super) fn changed(&self, is_mine: impl Fn(&SocketAddr) -> bool) -> Option<Outlook> {
        let mut state = self.state();
        let outlook = state.outlook(is_mine);
        let changed = state.reported != Some(outlook);
        state.reported = Some(outlook);
        changed.then_some(outlook)
    }

    /// Returns the nodes that reject this one.
    pub(super) fn refused(&self) -> Vec<RefusedNode> {
        let state = self.state();
        let mut rows: Vec<_> = state
            .results
            .iter()
            .filter_map(|(address, found)| match found.result {
                DialResult::Rejects { reason, .. } => Some(RefusedNode {
                    address: address.to_string(),
                    reason: reason.to_owned(),
                }),
                DialResult::Accepts { .. } | DialResult::Closed | DialResult::Silence => None,
            })
            .collect();
        rows.sort_by(|a, b| a.address.cmp(&b.address));
        rows
    }

    fn state(&self) -> MutexGuard<'_, AddressTable> {
        lock(&self.state)
    }
}

impl AddressTable {
    fn outlook(&self, is_mine: impl Fn(&SocketAddr) -> bool) -> Outlook {
        let mut outlook = Outlook::default();
        let mut counted = self.former.clone();
        for name in self.names.values() {
            counted.extend(&name.addresses);
            if name.addresses.is_empty() {
                let known = name.unresolved.is_some_and(|streak| streak.is_conclusive());
                outlook.configured += 1;
                outlook.silent += usize::from(!known);
            }
        }
        counted.retain(|address| !is_mine(address));
        outlook.configured += counted.len();
        let mut accepting = BTreeSet::new();
        for address in &counted {
            let mut found = self.results.get(address);
            if let Some(DialResult::Accepts { at }) = found.map(|found| found.result) {
                // The result at the address that the node advertises counts.
                found = self.results.get(&at);
            }
            match found {
                Some(found)
                    if found.result == DialResult::Closed && found.streak.is_conclusive() => {}
                Some(found) => match found.result {
                    DialResult::Accepts { at } => drop(accepting.insert(at)),
                    DialResult::Rejects { by, .. } => {
                        outlook.foreign += usize::from(by == Rejection::Foreign);
                        outlook.silent += usize::from(by == Rejection::Younger);
                    }
                    DialResult::Closed | DialResult::Silence => outlook.silent += 1,
                },
                None => outlook.silent += 1,
            }
        }
        outlook.accepting = accepting.len();
        for found in self.results.values() {
            if let DialResult::Rejects { by, .. } = found.result {
                let excluded = by == Rejection::Exclusion;
                outlook.excluding += usize::from(excluded);
                outlook.rejecting += usize::from(excluded || by == Rejection::Peer);
            }
        }
        outlook
    }
}

/// Number and duration of equal results before an address counts as closed.
const CONCLUSIVE_TIMES: u32 = 3;
const CONCLUSIVE_AFTER: Duration = Duration::from_secs(2);

/// Most addresses with a result: as many as are dialed.
const RESULTS_MAX: usize = 256;

#[cfg(test)]
mod tests;
