//! Who is in besides this node, and small sets of them.
//!
//! What a member has said of itself stands beside it; what follows from it is decided elsewhere.

use crate::session::Timestamp;

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

    pub(crate) const fn of(peer: PeerIndex) -> Self {
        Self(1 << peer)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
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
    /// Whether it has said that it is on its way out: it holds nothing any more.
    pub(crate) leaving: bool,
    /// Whether it has said good-bye: nothing is lost with it.
    pub(crate) parted: bool,
    /// The number of what it last said of itself.
    pub(crate) number: u64,
    /// The view that it last said it is in.
    pub(crate) view: Option<ViewId>,
    /// Whether it has said that it has everything of that view.
    pub(crate) complete: bool,
    pub(crate) ready: bool,
    /// Whether it is sure that what the members do not find does not exist.
    pub(crate) certain: bool,
    /// Questions in a row since anything was heard from it.
    pub(crate) unanswered: u32,
    /// When a message of it, or a part of one, last arrived here or was confirmed by it.
    pub(crate) active_at: Timestamp,
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

    /// Adds a member. Returns `true` if there was room.
    pub(crate) fn add(&mut self, node: Node) -> bool {
        let fingerprint = node.fingerprint();
        let peer = Some(Peer {
            node,
            fingerprint,
            leaving: false,
            parted: false,
            number: 0,
            view: None,
            complete: false,
            ready: false,
            certain: false,
            unanswered: 0,
            active_at: Timestamp::default(),
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

    /// Nothing is lost with the members that this node is about to leave.
    pub(crate) fn part(&mut self) {
        for peer in self.places.iter_mut().flatten() {
            peer.parted = true;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &Peer)> + Clone {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }

    pub(crate) fn all(&self) -> PeerSet {
        let mut all = PeerSet::default();
        for (index, _) in self.iter() {
            all.insert(index);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node {
            address: ([127, 0, 0, 1], port).into(),
            generation: 1,
            name: format!("node{port}").into(),
        }
    }

    fn roster(ports: impl IntoIterator<Item = u16>) -> Roster {
        let mut roster = Roster::default();
        for port in ports {
            assert!(roster.add(node(port)));
        }
        roster
    }

    #[test]
    fn a_peer_keeps_its_place() {
        let mut roster = roster(1..4);
        let third = roster.find(&node(3)).unwrap();
        roster.remove(roster.find(&node(1)).unwrap());
        assert_eq!(roster.find(&node(3)), Some(third));
        assert!(roster.add(node(9)));
        assert_eq!(roster.all().len(), 3);
    }

    #[test]
    fn a_full_roster_refuses() {
        let mut roster = roster(0..PEERS_MAX as u16);
        assert!(!roster.add(node(9_999)));
    }
}
