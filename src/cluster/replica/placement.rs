//! Placement: the holders and the owner of each slot.
//!
//! A slot's *holders* are the first [`Copies`] members in the order of rendezvous hashing; the
//! first of them is its *owner*. The order depends on the names of the members only. So all members
//! compute the same holders without a directory, and a node that returns under its name gets its
//! slots back. Members that are leaving hold nothing, unless all members are leaving.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::copies::Copies;

use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::{PEERS_MAX, PeerIndex, PeerSet, PeerTable};

/// Returns the hash of a set of members and of their leaving flags, equal on all members.
pub(crate) fn members_hash(me: &Node, leaving: bool, peers: &PeerTable) -> u64 {
    // Incarnations and flags count. There would otherwise be no new view when a member has
    // restarted without its memory, or holds nothing any more, and acknowledgements from before
    // would count.
    let mix = |fingerprint: u64, leaving: bool| {
        xxh3_64_with_seed(&fingerprint.to_be_bytes(), leaving.into())
    };
    // A sum does not depend on the order of the peers, which differs between members.
    peers
        .iter()
        .fold(mix(me.fingerprint(), leaving), |sum, (_, peer)| {
            sum.wrapping_add(mix(peer.fingerprint, peer.leaving))
        })
}

/// A member, relative to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberRef {
    Me,
    Peer(PeerIndex),
}

/// The holders of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holders {
    pub(crate) me: bool,
    pub(crate) peers: PeerSet,
    /// The holder that orders the changes that need an order.
    pub(crate) owner: MemberRef,
}

/// The holders of all slots in one view.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    copies: Copies,
    /// Members that can hold slots.
    candidates: Vec<HolderCandidate>,
}

#[derive(Clone, Debug)]
struct HolderCandidate {
    member: MemberRef,
    /// Determines its rank for each slot.
    seed: u64,
    fingerprint: u64,
    name: std::sync::Arc<str>,
}

impl Placement {
    pub(crate) fn new(copies: Copies, me: &Node, leaving: bool, peers: &PeerTable) -> Self {
        let members = || {
            let peers = peers
                .iter()
                .map(|(index, peer)| (MemberRef::Peer(index), &peer.node, peer.leaving));
            std::iter::once((MemberRef::Me, me, leaving)).chain(peers)
        };
        // Otherwise no node would hold the sessions while all members leave at the same time.
        let all_leave = members().all(|(.., leaving)| leaving);
        let candidates =
            members()
                .filter(|(.., leaving)| all_leave || !leaving)
                .map(|(member, node, _)| HolderCandidate {
                    member,
                    seed: node.seed(),
                    fingerprint: node.fingerprint(),
                    name: node.name.clone(),
                });
        Self {
            copies,
            candidates: candidates.collect(),
        }
    }

    /// Returns the number of members that can hold slots.
    pub(crate) fn candidates(&self) -> usize {
        self.candidates.len()
    }

    /// Returns `true` if there are fewer members than configured copies.
    pub(crate) fn lacks_members(&self) -> bool {
        self.wanted().is_some_and(|n| self.candidates() < n)
    }

    /// Returns `true` if this node can hold slots.
    pub(crate) fn is_candidate(&self) -> bool {
        self.candidates.iter().any(|c| c.member == MemberRef::Me)
    }

    /// Returns the configured number of copies; `None` for all members.
    pub(crate) fn wanted(&self) -> Option<usize> {
        match self.copies {
            Copies::All => None,
            Copies::Count(n) => Some(n.get().into()),
        }
    }

    /// Returns the members other than this node that own slots.
    pub(crate) fn owners(&self) -> PeerSet {
        let members = self.candidates.iter().map(|candidate| candidate.member);
        members.fold(PeerSet::default(), |all, member| match member {
            MemberRef::Peer(peer) => all.union(PeerSet::of(peer)),
            MemberRef::Me => all,
        })
    }

    /// Returns the number of holders of each slot.
    pub(crate) fn width(&self) -> usize {
        let all = self.candidates.len();
        self.wanted().map_or(all, |wanted| wanted.min(all))
    }

    /// Returns `true` if this node is a holder of the slot.
    pub(crate) fn is_local(&self, slot: usize) -> bool {
        self.holds(slot, MemberRef::Me)
    }

    /// Returns `true` if the member is a holder of the slot.
    pub(crate) fn holds(&self, slot: usize, member: MemberRef) -> bool {
        let Some(candidate) = self.candidates.iter().find(|c| c.member == member) else {
            return false;
        };
        if self.width() == self.candidates.len() {
            return true;
        }
        let rank = candidate.rank(slot);
        let before = self.candidates.iter().filter(|c| c.rank(slot) > rank);
        before.take(self.width()).count() < self.width()
    }

    /// Returns the owner of a slot.
    pub(crate) fn owner(&self, slot: usize) -> MemberRef {
        self.first(slot).map_or(MemberRef::Me, |first| first.member)
    }

    /// Returns the name of the owner of a slot.
    pub(crate) fn owner_name(&self, slot: usize) -> Option<&str> {
        self.first(slot).map(|first| &*first.name)
    }

    pub(crate) fn holders(&self, slot: usize) -> Holders {
        let mut holders = Holders {
            me: false,
            peers: PeerSet::default(),
            owner: self.owner(slot),
        };
        let mut ranks = [(0, 0); PEERS_MAX + 1];
        for (rank, candidate) in ranks.iter_mut().zip(&self.candidates) {
            *rank = candidate.rank(slot);
        }
        let ranks = &ranks[..self.candidates.len()];
        for (candidate, rank) in self.candidates.iter().zip(ranks) {
            let before = ranks.iter().filter(|other| *other > rank).count();
            match candidate.member {
                _ if before >= self.width() => {}
                MemberRef::Me => holders.me = true,
                MemberRef::Peer(peer) => holders.peers.insert(peer),
            }
        }
        holders
    }

    /// Returns the candidate of the highest rank. There is one: either some member is not leaving,
    /// or all of them are candidates.
    fn first(&self, slot: usize) -> Option<&HolderCandidate> {
        self.candidates.iter().max_by_key(|c| c.rank(slot))
    }
}

impl HolderCandidate {
    fn rank(&self, slot: usize) -> (u64, u64) {
        // Of equal weights the fingerprint decides, which is equal on all members. The order of the
        // peers is not, and two members would each have another owner.
        (weight(slot, self.seed), self.fingerprint)
    }
}

/// Returns the weight of a member for a slot in rendezvous hashing (Thaler and Ravishankar, 1998).
/// The member with the highest weight owns the slot; when a member leaves, only its slots move.
fn weight(slot: usize, seed: u64) -> u64 {
    xxh3_64_with_seed(&(slot as u64).to_be_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;
    use crate::session::SLOTS;

    fn node(port: u16) -> Node {
        Node {
            address: ([127, 0, 0, 1], port).into(),
            incarnation: 1,
            name: format!("node{port}").into(),
        }
    }

    fn peers(ports: impl IntoIterator<Item = u16>) -> PeerTable {
        let mut peers = PeerTable::default();
        for port in ports {
            assert!(peers.add(node(port)));
        }
        peers
    }

    /// Names of a slot's holders among nodes 1 to `count`, computed by node `me`.
    fn holders(me: u16, count: u16, copies: Copies, slot: usize) -> Vec<String> {
        let peers = peers((1..=count).filter(|port| *port != me));
        let placement = Placement::new(copies, &node(me), false, &peers);
        let found = placement.holders(slot);
        let peers = found
            .peers
            .iter()
            .map(|peer| peers.get(peer).unwrap().node.name.to_string());
        let mut names: Vec<_> = peers.collect();
        if found.me {
            names.push(node(me).name.to_string());
        }
        names.sort();
        names
    }

    fn two() -> Copies {
        Copies::Count(NonZeroU8::new(2).unwrap())
    }

    #[test]
    fn every_member_names_the_view_alike() {
        let of_one = members_hash(&node(1), false, &peers([2, 3]));
        assert_eq!(of_one, members_hash(&node(3), false, &peers([1, 2])));
        assert_ne!(of_one, members_hash(&node(1), false, &peers([2])));
        assert_ne!(of_one, members_hash(&node(1), true, &peers([2, 3])));
    }

    #[test]
    fn every_member_finds_the_same_holders() {
        for slot in 0..100 {
            let of_one = holders(1, 5, two(), slot);
            assert_eq!(of_one.len(), 2);
            assert_eq!(of_one, holders(4, 5, two(), slot));
        }
    }

    #[test]
    fn with_too_few_members_all_hold_every_slot() {
        let three = Copies::Count(NonZeroU8::new(3).unwrap());
        assert_eq!(holders(1, 2, three, 7), holders(1, 2, Copies::All, 7));
    }

    #[test]
    fn a_new_member_takes_slots_and_moves_no_other() {
        for slot in 0..SLOTS {
            let before = holders(1, 4, two(), slot);
            let after = holders(1, 5, two(), slot);
            let newcomers = after.iter().filter(|name| !before.contains(name));
            assert!(newcomers.clone().all(|name| name == "node5"));
        }
    }

    #[test]
    fn a_member_that_comes_back_gets_its_slots_back() {
        let mut renewed = node(2);
        renewed.incarnation = 99;
        let before = Placement::new(two(), &node(1), false, &peers([2, 3]));
        let mut later = peers([3]);
        later.add(renewed);
        let after = Placement::new(two(), &node(1), false, &later);
        for slot in 0..SLOTS {
            assert_eq!(before.owner_name(slot), after.owner_name(slot));
            assert_eq!(before.is_local(slot), after.is_local(slot));
        }
    }

    #[test]
    fn a_leaving_member_holds_nothing_unless_all_leave() {
        let others = peers([2, 3]);
        let leaving = Placement::new(Copies::All, &node(1), true, &others);
        assert!((0..SLOTS).all(|slot| !leaving.is_local(slot)));
        let alone = Placement::new(Copies::All, &node(1), true, &PeerTable::default());
        assert!((0..SLOTS).all(|slot| alone.is_local(slot)));
    }

    #[test]
    fn slots_are_shared_out_evenly_and_only_the_lost_ones_move() {
        let five = Placement::new(two(), &node(1), false, &peers(2..=5));
        let four = Placement::new(two(), &node(1), false, &peers(2..=4));
        let mut owned = std::collections::BTreeMap::<_, usize>::new();
        for slot in 0..SLOTS {
            let owner = five.owner_name(slot).unwrap();
            *owned.entry(owner).or_default() += 1;
            if owner != "node5" {
                assert_eq!(four.owner_name(slot), Some(owner));
            }
        }
        let share = SLOTS / 5;
        let even = |n: &usize| n.abs_diff(share) < share / 10;
        assert!(owned.values().all(even), "{owned:?}");
    }

    /// `cargo test --all-features --lib fifty_nodes -- --nocapture` prints the figures of
    /// `benches/README.md`.
    #[test]
    fn fifty_nodes_share_out_evenly_and_a_join_moves_its_share_and_no_more() {
        let nodes = 50;
        let before = Placement::new(two(), &node(1), false, &peers(2..=nodes));
        let after = Placement::new(two(), &node(1), false, &peers(2..=nodes + 1));
        let mut owned = std::collections::BTreeMap::<_, usize>::new();
        let mut moved = 0;
        for slot in 0..SLOTS {
            *owned.entry(before.owner_name(slot).unwrap()).or_default() += 1;
            let (old, new) = (before.holders(slot), after.holders(slot));
            moved += new.peers.without(old.peers).len() + usize::from(new.me && !old.me);
        }
        let share = SLOTS as f64 / f64::from(nodes);
        let least = *owned.values().min().unwrap() as f64 / share;
        let most = *owned.values().max().unwrap() as f64 / share;
        let moved = moved as f64 / (2 * SLOTS) as f64 * f64::from(nodes + 1);
        println!(
            "owners have {least:.2} to {most:.2} of their share; a join moves {moved:.2} of one"
        );
        assert!(least > 0.8 && most < 1.2, "{least} to {most}");
        assert!((0.85..1.15).contains(&moved), "{moved}");

        // A new session gets a slot that its node owns, so owners have as many sessions as the load
        // balancer gives them, until members change.
        let share_of = |placement: &Placement, nodes: u16| {
            let mut shares = std::collections::BTreeMap::<_, f64>::new();
            for slot in 0..SLOTS {
                let sessions = 1.0 / owned[before.owner_name(slot).unwrap()] as f64;
                let owner = placement.owner_name(slot).unwrap().to_owned();
                *shares.entry(owner).or_default() += sessions * f64::from(nodes) / 50.0;
            }
            let least = shares.values().copied().fold(f64::MAX, f64::min);
            let most = shares.values().copied().fold(0.0, f64::max);
            (least, most)
        };
        let fewer = Placement::new(two(), &node(1), false, &peers(2..=nodes - 1));
        let changes = [
            (&before, 50, "50"),
            (&fewer, 49, "49 of them"),
            (&after, 51, "51"),
        ];
        for (placement, nodes, which) in changes {
            let (least, most) = share_of(placement, nodes);
            println!(
                "of the sessions that 50 nodes made, owners among {which} have {least:.2} to {most:.2}"
            );
            assert!(least > 0.95 && most < 1.05, "{which}: {least} to {most}");
        }
    }
}
