//! Who is alive: foca, an implementation of SWIM, behind the few words that the replica needs.
//!
//! foca is sans-io as well; its packets travel as [`Message::Swim`](super::message::Message) on the
//! links that carry sessions. Over TCP it never sees a lost packet, which is what makes small
//! clusters free of false alarms.
//!
//! It promises that an identity that was declared down never comes back; a node that learns that it
//! was, continues in a new life. What foca does not do is added by the replica: it hears of links
//! ([`alive`](Membership::alive)) and of closed ports ([`down`](Membership::down)).

use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Incarnation, Member, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, PostcardCodec, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::node::Node;

/// The membership protocol of one node.
pub(crate) struct Membership {
    foca: Foca<Node, PostcardCodec, StdRng, NoCustomBroadcast>,
    seed: u64,
    runtime: AccumulatingRuntime<Node>,
    /// Whether the members may have changed since that was last asked.
    changed: bool,
}

/// Something that the membership protocol wants.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Send a packet to a node.
    Send(Node, Vec<u8>),
    /// Call [`Membership::timeout`] with this after a while.
    Wake(Duration, Timer<Node>),
    /// This node lives on under another identity.
    Reborn(Node),
}

impl Membership {
    pub(crate) fn new(me: Node, seed: u64) -> Self {
        Self {
            foca: Foca::new(me, config(), StdRng::seed_from_u64(seed), PostcardCodec),
            seed,
            runtime: AccumulatingRuntime::new(),
            changed: false,
        }
    }

    /// Returns `true` if the members may have changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Members besides this node, suspected ones included.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Node> {
        self.foca.iter_members().map(Member::id)
    }

    /// Identities that were declared down, as far as they are remembered.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &Node> {
        let down = |member: &&Member<Node>| member.state() == State::Down;
        self.foca
            .iter_membership_state()
            .filter(down)
            .map(Member::id)
    }

    /// Returns `true` if an identity was declared down.
    pub(crate) fn is_down(&self, node: &Node) -> bool {
        self.removed().any(|removed| removed == node)
    }

    /// A packet has come. A bad one changes nothing.
    pub(crate) fn packet(&mut self, packet: &[u8]) {
        let _ = self.foca.handle_data(packet, &mut self.runtime);
    }

    /// A timer has run out. foca reports stale timers as errors; they change nothing.
    ///
    /// One of them does: at the end of a suspicion foca makes the suspect rejoin, also where it has
    /// refuted the suspicion.
    pub(crate) fn timeout(&mut self, timer: Timer<Node>) {
        if let Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = &timer
            && !self.is_suspect(member_id, *incarnation)
        {
            return;
        }
        let _ = self.foca.handle_timer(timer, &mut self.runtime);
    }

    /// Returns `true` if a member is still suspected in an incarnation.
    fn is_suspect(&self, node: &Node, incarnation: Incarnation) -> bool {
        let mut all = self.foca.iter_membership_state();
        let member = all.find(|member| member.id() == node);
        member.is_some_and(|member| {
            member.state() == State::Suspect && member.incarnation() == incarnation
        })
    }

    /// These nodes were alive a moment ago. Says nothing of one that was declared down.
    pub(crate) fn alive(&mut self, nodes: impl Iterator<Item = Node>) {
        self.apply(nodes.map(Member::alive));
    }

    /// A suspect is alive: the suspicion ends here. Elsewhere only the node itself refutes it.
    pub(crate) fn trust(&mut self, suspect: &Node) {
        let is_suspect =
            |member: &&Member<Node>| member.state() == State::Suspect && member.id() == suspect;
        let trusted: Vec<_> = self
            .foca
            .iter_membership_state()
            .filter(is_suspect)
            .map(|member| {
                let incarnation = member.incarnation().saturating_add(1);
                Member::new(member.id().clone(), incarnation, State::Alive)
            })
            .collect();
        if !trusted.is_empty() {
            self.apply(trusted.into_iter());
        }
    }

    /// These identities are down, which is final.
    pub(crate) fn down(&mut self, nodes: impl Iterator<Item = Node>) {
        self.apply(nodes.map(Member::down));
    }

    /// Tells a node that this one is here.
    pub(crate) fn announce(&mut self, node: Node) {
        // Encoding into memory cannot fail.
        let _ = self.foca.announce(node, &mut self.runtime);
    }

    /// Begins anew as `me`, like a process that has just started: nothing is known of any node, and
    /// timers of before mean nothing.
    pub(crate) fn restart(&mut self, me: Node) {
        *self = Self {
            changed: true,
            ..Self::new(me, self.seed.wrapping_add(1))
        };
    }

    /// Goes on in a new life.
    pub(crate) fn rebirth(&mut self) -> Node {
        self.rebirth_above(0)
    }

    /// Goes on in a new life that is later than this generation.
    pub(crate) fn rebirth_above(&mut self, generation: u64) -> Node {
        let mut next = self.foca.identity().reborn();
        next.generation = next.generation.max(generation.saturating_add(1));
        self.changed = true;
        // The only error is that the identity did not change.
        let _ = self.foca.change_identity(next.clone(), &mut self.runtime);
        next
    }

    /// Tells the others that this node goes.
    pub(crate) fn leave(&mut self) {
        self.changed = true;
        // Encoding into memory cannot fail.
        let _ = self.foca.leave_cluster(&mut self.runtime);
    }

    /// What is to be done after any of the calls above.
    pub(crate) fn wish(&mut self) -> Option<Wish> {
        while let Some(notification) = self.runtime.to_notify() {
            self.changed = true;
            if let OwnedNotification::Rejoin(node) = notification {
                return Some(Wish::Reborn(node));
            }
        }
        if let Some((to, packet)) = self.runtime.to_send() {
            return Some(Wish::Send(to, packet.to_vec()));
        }
        let (after, timer) = self.runtime.to_schedule()?;
        Some(Wish::Wake(after, timer))
    }

    fn apply(&mut self, members: impl Iterator<Item = Member<Node>>) {
        // Encoding into memory cannot fail.
        let _ = self.foca.apply_many(members, true, &mut self.runtime);
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("me", self.foca.identity())
            .finish_non_exhaustive()
    }
}

/// A member that does not answer is suspected after `PROBE_PERIOD` and declared down
/// [`SUSPICION`] later. Over TCP nothing is lost, so silence means more than it does over UDP.
fn config() -> Config {
    let members = |n| NonZeroUsize::new(n).expect("not zero");
    let periodic = |frequency, n| {
        Some(PeriodicParams {
            frequency,
            num_members: members(n),
        })
    };
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: members(3),
        max_transmissions: NonZeroU8::new(10).expect("not zero"),
        suspect_to_down_after: SUSPICION,
        max_packet_size: members(PACKET_MAX),
        notify_down_members: true,
        periodic_announce: periodic(Duration::from_secs(5), 1),
        periodic_announce_to_down_members: periodic(Duration::from_secs(3), 2),
        periodic_gossip: periodic(Duration::from_millis(200), 3),
        remove_down_after: Some(REMEMBER_DOWN),
    }
}

const PROBE_PERIOD: Duration = Duration::from_millis(1_000);
/// Longer than a round trip between continents, and than what waits on a slow link before a probe.
const PROBE_RTT: Duration = Duration::from_millis(500);
const SUSPICION: Duration = Duration::from_secs(2);

/// How long a silent member may still be alive for the others: nobody is declared down earlier.
pub(crate) const DETECTION: Duration = SUSPICION;

/// How long an identity that is down is remembered: longer than messages of it can be under way.
const REMEMBER_DOWN: Duration = Duration::from_secs(600);

/// A packet that names every member a cluster may have.
const PACKET_MAX: usize = 16 * 1024;
