//! Who is in, who owns which slot, and small sets of peers.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::message::ViewId;
use super::node::Node;

/// Most members a cluster may have besides this node: what fits into a [`PeerSet`]. Every node
/// talks to every other, so far fewer are sensible.
pub(crate) const PEERS_MAX: usize = 63;

/// A set of peers, by their place in the [`Roster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct PeerSet(u64);

/// A peer's place in the [`Roster`].
pub(crate) type PeerIndex = usize;

impl PeerSet {
    pub(crate) fn insert(&mut self, peer: PeerIndex) {
        self.0 |= 1 << peer;
    }

    pub(crate) fn remove(&mut self, peer: PeerIndex) {
        self.0 &= !(1 << peer);
    }

    pub(crate) const fn contains(self, peer: PeerIndex) -> bool {
        self.0 & 1 << peer != 0
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = PeerIndex> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let peer = rest.trailing_zeros() as PeerIndex;
            (rest != 0).then(|| {
                rest &= rest - 1;
                peer
            })
        })
    }
}

/// A member other than this node, and what it has said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) fingerprint: u64,
    /// The number of what it last said of itself.
    pub(crate) number: u64,
    /// The view that it last said it is in.
    pub(crate) view: Option<ViewId>,
    /// Whether it has said that it has everything of that view.
    pub(crate) complete: bool,
    pub(crate) ready: bool,
}

/// The members other than this node. A peer keeps its place for as long as it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    places: Vec<Option<Peer>>,
}

impl Roster {
    pub(crate) fn find(&self, node: &Node) -> Option<PeerIndex> {
        let is = |place: &Option<Peer>| place.as_ref().is_some_and(|peer| peer.node == *node);
        self.places.iter().position(is)
    }

    pub(crate) fn get(&self, peer: PeerIndex) -> Option<&Peer> {
        self.places.get(peer)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, peer: PeerIndex) -> Option<&mut Peer> {
        self.places.get_mut(peer)?.as_mut()
    }

    /// Adds a member. Says whether there was room.
    pub(crate) fn add(&mut self, node: Node) -> bool {
        let fingerprint = node.fingerprint();
        let peer = Some(Peer {
            node,
            fingerprint,
            number: 0,
            view: None,
            complete: false,
            ready: false,
        });
        match self.places.iter().position(Option::is_none) {
            Some(place) => self.places[place] = peer,
            None if self.places.len() < PEERS_MAX => self.places.push(peer),
            None => return false,
        }
        true
    }

    pub(crate) fn remove(&mut self, peer: PeerIndex) {
        if let Some(place) = self.places.get_mut(peer) {
            *place = None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &Peer)> {
        let place = |(index, place): (PeerIndex, &'_ Option<Peer>)| place.as_ref().map(|_| index);
        let indices: Vec<_> = self.places.iter().enumerate().filter_map(place).collect();
        indices
            .into_iter()
            .filter_map(|index| Some((index, self.get(index)?)))
    }

    pub(crate) fn all(&self) -> PeerSet {
        let mut all = PeerSet::default();
        for (index, _) in self.iter() {
            all.insert(index);
        }
        all
    }
}

/// The name of a set of members: the same for the same set, whoever asks.
pub(crate) fn view_id(me: &Node, roster: &Roster) -> ViewId {
    let mix = |fingerprint: u64| xxh3_64_with_seed(&fingerprint.to_be_bytes(), 0);
    roster.iter().fold(mix(me.fingerprint()), |sum, (_, peer)| {
        sum.wrapping_add(mix(peer.fingerprint))
    })
}

/// How strongly a member is drawn to a slot: rendezvous hashing (Thaler and Ravishankar, 1998).
/// The member with the highest weight owns the slot; when it goes, only its own slots move.
pub(crate) fn weight(slot: usize, fingerprint: u64) -> u64 {
    xxh3_64_with_seed(&(slot as u64).to_be_bytes(), fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SLOTS;

    fn node(port: u16) -> Node {
        Node {
            address: ([127, 0, 0, 1], port).into(),
            generation: 1,
            name: "n".into(),
        }
    }

    #[test]
    fn a_peer_keeps_its_place() {
        let mut roster = Roster::default();
        for port in 1..4 {
            assert!(roster.add(node(port)));
        }
        let third = roster.find(&node(3)).unwrap();
        roster.remove(roster.find(&node(1)).unwrap());
        assert_eq!(roster.find(&node(3)), Some(third));
        assert!(roster.add(node(9)));
        assert_eq!(roster.all().len(), 3);
    }

    #[test]
    fn a_full_roster_refuses() {
        let mut roster = Roster::default();
        for port in 0..PEERS_MAX {
            assert!(roster.add(node(port as u16)));
        }
        assert!(!roster.add(node(9_999)));
    }

    #[test]
    fn every_member_names_the_view_alike() {
        let mut of_one = Roster::default();
        of_one.add(node(2));
        of_one.add(node(3));
        let mut of_three = Roster::default();
        of_three.add(node(1));
        of_three.add(node(2));
        assert_eq!(view_id(&node(1), &of_one), view_id(&node(3), &of_three));
        assert_ne!(view_id(&node(1), &of_one), view_id(&node(1), &of_three));
    }

    #[test]
    fn slots_are_shared_out_evenly_and_only_the_lost_ones_move() {
        let nodes: Vec<_> = (1..=5).map(|port| node(port).fingerprint()).collect();
        let owner = |slot, among: &[u64]| {
            among
                .iter()
                .copied()
                .max_by_key(|f| weight(slot, *f))
                .unwrap()
        };
        let mut owned = vec![0_usize; nodes.len()];
        for slot in 0..SLOTS {
            let of_all = owner(slot, &nodes);
            owned[nodes.iter().position(|f| *f == of_all).unwrap()] += 1;
            if of_all != nodes[4] {
                assert_eq!(owner(slot, &nodes[..4]), of_all);
            }
        }
        let share = SLOTS / nodes.len();
        assert!(
            owned.iter().all(|n| n.abs_diff(share) < share / 10),
            "{owned:?}"
        );
    }
}
