//! Membership: foca, an implementation of SWIM, behind the operations that the replica needs.
//!
//! foca does no I/O either; its packets travel as [`Message::Swim`](super::message::Message) on the
//! links that carry sessions. Over TCP it sees no lost packets, so small clusters have no false
//! alarms.
//!
//! An incarnation that was declared down never comes back; a node that receives this about itself
//! continues in a new incarnation. The replica adds what foca does not do: it reports links
//! ([`alive`](Membership::alive)) and closed ports ([`down`](Membership::down)).

use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Incarnation, Member, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, PostcardCodec, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cluster::replica::node::Node;

/// The membership protocol of one node.
pub(crate) struct Membership {
    foca: Foca<Node, PostcardCodec, StdRng, NoCustomBroadcast>,
    seed: u64,
    runtime: AccumulatingRuntime<Node>,
    /// Whether the members may have changed since this was last read.
    changed: bool,
}

/// An action that the membership protocol requests.
#[derive(Debug)]
pub(crate) enum MembershipOutput {
    /// Send a packet to a node.
    Send(Node, Vec<u8>),
    /// Call [`Membership::timeout`] with this after the delay.
    Wake(Duration, Timer<Node>),
    /// This node continues under another identity.
    Rejoin(Node),
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

    /// Returns `true` if the members may have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns the members besides this node, suspects included.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Node> {
        self.foca.iter_members().map(Member::id)
    }

    /// Returns the incarnations that were declared down, as far as they are remembered.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &Node> {
        let down = |member: &&Member<Node>| member.state() == State::Down;
        self.foca
            .iter_membership_state()
            .filter(down)
            .map(Member::id)
    }

    /// Returns `true` if the incarnation was declared down.
    pub(crate) fn is_down(&self, node: &Node) -> bool {
        self.removed().any(|removed| removed == node)
    }

    /// Handles a packet. An invalid one changes nothing.
    pub(crate) fn packet(&mut self, packet: &[u8]) {
        let _ = self.foca.handle_data(packet, &mut self.runtime);
    }

    /// Handles an expired timer. Returns the member that this declares down. foca reports stale
    /// timers as errors; they change nothing.
    ///
    /// The end of a suspicion that was refuted is not given to foca, which would make the suspect
    /// rejoin.
    pub(crate) fn timeout(&mut self, timer: Timer<Node>) -> Option<Node> {
        let mut down = None;
        if let Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = &timer
        {
            if !self.is_suspect(member_id, *incarnation) {
                return None;
            }
            down = Some(member_id.clone());
        }
        let _ = self.foca.handle_timer(timer, &mut self.runtime);
        down
    }

    /// Returns `true` if a member is still suspected in this incarnation number of foca's.
    fn is_suspect(&self, node: &Node, incarnation: Incarnation) -> bool {
        let mut all = self.foca.iter_membership_state();
        let member = all.find(|member| member.id() == node);
        member.is_some_and(|member| {
            // The incarnation number is compared as well: the timer of a suspicion that was refuted
            // must not end a later one.
            member.state() == State::Suspect && member.incarnation() == incarnation
        })
    }

    /// Reports nodes that were alive a moment ago. Has no effect on one that was declared down.
    pub(crate) fn alive(&mut self, nodes: impl Iterator<Item = Node>) {
        self.apply(nodes.map(Member::alive));
    }

    /// Ends the suspicion of a member: here at once, and on the other members by gossip.
    pub(crate) fn trust(&mut self, suspect: &Node) {
        let is_suspect =
            |member: &&Member<Node>| member.state() == State::Suspect && member.id() == suspect;
        let trusted: Vec<_> = self
            .foca
            .iter_membership_state()
            .filter(is_suspect)
            .map(|member| {
                // SWIM prefers `Alive` to `Suspect` only with a larger incarnation number.
                let incarnation = member.incarnation().saturating_add(1);
                Member::new(member.id().clone(), incarnation, State::Alive)
            })
            .collect();
        if !trusted.is_empty() {
            self.apply(trusted.into_iter());
        }
    }

    /// Declares these incarnations down, which is final.
    pub(crate) fn down(&mut self, nodes: impl Iterator<Item = Node>) {
        self.apply(nodes.map(Member::down));
    }

    /// Announces this node to another one.
    pub(crate) fn announce(&mut self, node: Node) {
        // Encoding into memory cannot fail.
        let _ = self.foca.announce(node, &mut self.runtime);
    }

    /// Starts again as `me`, like a process that has just started: without knowledge of other
    /// nodes, and with all earlier timers invalid.
    pub(crate) fn restart(&mut self, me: Node) {
        *self = Self {
            changed: true,
            ..Self::new(me, self.seed.wrapping_add(1))
        };
    }

    /// Continues in a new incarnation.
    pub(crate) fn renew(&mut self) -> Node {
        self.renew_above(0)
    }

    /// Continues in a new incarnation later than `incarnation`.
    pub(crate) fn renew_above(&mut self, incarnation: u64) -> Node {
        let mut next = self.foca.identity().next_incarnation();
        next.incarnation = next.incarnation.max(incarnation.saturating_add(1));
        self.changed = true;
        // The only error is that the identity did not change.
        let _ = self.foca.change_identity(next.clone(), &mut self.runtime);
        next
    }

    /// Announces that this node leaves.
    pub(crate) fn leave(&mut self) {
        self.changed = true;
        // Encoding into memory cannot fail.
        let _ = self.foca.leave_cluster(&mut self.runtime);
    }

    /// Returns the next action that follows from the calls above.
    pub(crate) fn next_output(&mut self) -> Option<MembershipOutput> {
        while let Some(notification) = self.runtime.to_notify() {
            self.changed = true;
            if let OwnedNotification::Rejoin(node) = notification {
                return Some(MembershipOutput::Rejoin(node));
            }
        }
        if let Some((to, packet)) = self.runtime.to_send() {
            return Some(MembershipOutput::Send(to, packet.to_vec()));
        }
        let (after, timer) = self.runtime.to_schedule()?;
        Some(MembershipOutput::Wake(after, timer))
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

/// A member that does not answer is suspected after [`PROBE_PERIOD`] and declared down
/// [`SUSPICION`] later. Over TCP nothing is lost, so a missing answer means more than over UDP.
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
/// Longer than a round trip between continents, and than what is queued before a probe on a slow
/// link.
const PROBE_RTT: Duration = Duration::from_millis(500);
const SUSPICION: Duration = Duration::from_secs(2);

/// How long other members consider a silent member alive. Only a member whose port refuses
/// connections, or that does not answer requests for its view, is declared down earlier.
pub(crate) const DETECTION: Duration = SUSPICION;

/// How long a down incarnation is remembered: longer than its messages can be under way.
const REMEMBER_DOWN: Duration = Duration::from_secs(600);

/// A packet that names every member that a cluster may have.
const PACKET_MAX: usize = 16 * 1024;
