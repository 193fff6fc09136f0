//! The peers of this node, and compact sets of them.
//!
//! Each peer is stored with what it has announced. Decisions that follow from it are made
//! elsewhere.

use crate::session::Timestamp;

use crate::cluster::replica::event::DownCause;
use crate::cluster::replica::message::ViewId;
use crate::cluster::replica::node::Node;

/// Maximum number of members besides this node, the capacity of a [`PeerSet`]. Every node has links
/// to all others, so practical clusters are far smaller.
pub(crate) const PEERS_MAX: usize = 63;

/// A set of peers, by their index in the [`PeerTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct PeerSet(u64);

/// The index of a peer in the [`PeerTable`].
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

/// A member other than this node, and what it has announced.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) fingerprint: u64,
    /// Whether it has announced that it is leaving and holds no slots.
    pub(crate) leaving: bool,
    /// Whether it has left in order, so that nothing is lost with it.
    pub(crate) departed: bool,
    /// When it first refused a connection, if it was leaving.
    pub(crate) refused_at: Option<Timestamp>,
    /// Why it is about to be removed, if this node has the reason.
    pub(crate) down: Option<DownCause>,
    /// The number of its latest announcement.
    pub(crate) number: u64,
    /// The view that it has announced.
    pub(crate) view: Option<ViewId>,
    /// Whether it has announced that it is complete in that view.
    pub(crate) complete: bool,
    pub(crate) ready: bool,
    /// The number of kinds of messages that it has announced to know.
    pub(crate) kinds: u32,
    /// Whether it is certain that an unknown session does not exist.
    pub(crate) certain: bool,
    /// Consecutive requests for its view since anything arrived from it.
    pub(crate) unanswered: u32,
    /// Until when it wants this node's events.
    pub(crate) listens_until: Timestamp,
    /// Whether it has connected again and announced nothing since. Until then it may have received
    /// requests here over an earlier link, and have no link for the answers.
    pub(crate) reconnected: bool,
    /// When a message of it, or a part of one, last arrived, or was confirmed by it.
    pub(crate) active_at: Timestamp,
}

/// The members other than this node. The index of a peer does not change while it is a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerTable {
    places: Vec<Option<Peer>>,
    all: PeerSet,
}

impl PeerTable {
    pub(crate) fn find(&self, node: &Node) -> Option<PeerIndex> {
        let is = |place: &Option<Peer>| place.as_ref().is_some_and(|peer| peer.node == *node);
        self.places.iter().position(is)
    }

    pub(crate) fn get(&self, peer: PeerIndex) -> Option<&Peer> {
        self.places.get(peer)?.as_ref()
    }

    /// Returns `true` if the peer has connected again since the last call.
    pub(crate) fn take_reconnected(&mut self, peer: PeerIndex) -> bool {
        let peer = self.get_mut(peer);
        peer.is_some_and(|peer| std::mem::take(&mut peer.reconnected))
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
            departed: false,
            refused_at: None,
            down: None,
            number: 0,
            view: None,
            complete: false,
            ready: false,
            kinds: 0,
            certain: false,
            unanswered: 0,
            reconnected: false,
            listens_until: Timestamp::default(),
            active_at: Timestamp::default(),
        });
        let free = self.places.iter().position(Option::is_none);
        let index = free.unwrap_or(self.places.len());
        if index >= PEERS_MAX {
            return false;
        }
        match self.places.get_mut(index) {
            Some(place) => *place = peer,
            None => self.places.push(peer),
        }
        self.all.insert(index);
        true
    }

    pub(crate) fn remove(&mut self, peer: PeerIndex) {
        if let Some(place) = self.places.get_mut(peer) {
            *place = None;
            self.all.remove(peer);
        }
    }

    /// Marks all members as having left in order: this node leaves them, and nothing is lost.
    pub(crate) fn mark_departed(&mut self) {
        for peer in self.places.iter_mut().flatten() {
            peer.departed = true;
            peer.down = Some(DownCause::Rejoining);
        }
    }

    /// Notes that a member accepts connections.
    pub(crate) fn note_linked(&mut self, peer: PeerIndex) {
        if let Some(peer) = self.get_mut(peer) {
            peer.refused_at = None;
        }
    }

    /// Notes why a member is about to be removed. The first reason stays.
    pub(crate) fn note_down(&mut self, node: &Node, cause: DownCause) {
        if let Some(peer) = self.find(node).and_then(|index| self.get_mut(index)) {
            peer.down.get_or_insert(cause);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &Peer)> + Clone {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }

    pub(crate) const fn all(&self) -> PeerSet {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_peer_keeps_its_place() {
        let mut peers = peers(1..4);
        let third = peers.find(&node(3)).unwrap();
        let indexes = |peers: &PeerTable| peers.iter().map(|(index, _)| index).collect::<Vec<_>>();
        peers.remove(peers.find(&node(1)).unwrap());
        assert_eq!(peers.find(&node(3)), Some(third));
        assert_eq!(Vec::from_iter(peers.all().iter()), indexes(&peers));
        assert!(peers.add(node(9)));
        assert_eq!(peers.all().len(), 3);
        assert_eq!(Vec::from_iter(peers.all().iter()), indexes(&peers));
    }

    #[test]
    fn a_full_table_refuses() {
        let mut peers = peers(0..PEERS_MAX as u16);
        assert!(!peers.add(node(9_999)));
    }
}
