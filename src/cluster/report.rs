//! Log lines about a node and its cluster.
//!
//! Each line is a fixed message with fields, so that it can be counted and searched. A field means
//! the same in all lines of the cluster:
//!
//! - `node`: the name of the node that the line is about; without it the line is about this node
//! - `peer`: the name of the node at the other end of a link
//! - `address`: the address of that node, or the one that was dialed or has connected
//! - `cause`: the reason for what happened
//! - `elapsed_ms`: how long it took, or for how long it applies
//! - `sessions`: the number of sessions concerned

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cluster::replica::event::{DownCause, Exclusion, Notification};
use crate::cluster::replica::node::Node;

/// Writes the log lines of one node.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    /// Sessions that lacked copies when copying began.
    copying: AtomicUsize,
}

impl Reporter {
    /// Logs an event. `under_replicated` counts the sessions that lack copies, which may take a
    /// while.
    pub(super) fn report(
        &self,
        notification: &Notification,
        under_replicated: impl FnOnce() -> usize,
    ) {
        match notification {
            Notification::MemberUp(node) => tracing::info!(
                node = %node.name,
                address = %node.address,
                "a member was added"
            ),
            Notification::MemberDown { node, cause } => member_down(node, *cause),
            Notification::CopyingBegins => {
                let sessions = under_replicated();
                self.copying.store(sessions, Ordering::Relaxed);
                if sessions > 0 {
                    tracing::info!(
                        sessions,
                        "the members have changed: copying the sessions that lack copies"
                    );
                }
            }
            Notification::CopyingEnds { elapsed } => {
                let sessions = self.copying.swap(0, Ordering::Relaxed);
                if sessions > 0 {
                    let elapsed_ms = elapsed.as_millis() as u64;
                    tracing::info!(sessions, elapsed_ms, "redundancy restored");
                }
            }
            Notification::OverLimit {
                is_over,
                sessions,
                bytes,
            } => over_limit(*is_over, *sessions, *bytes),
            Notification::Excluded(exclusion) => excluded(exclusion),
            _ => report_problem(notification),
        }
    }
}

fn member_down(node: &Node, cause: DownCause) {
    let (name, address, cause_text) = (&node.name, node.address, cause.as_str());
    match cause {
        DownCause::Left => {
            tracing::info!(node = %name, %address, "a member has left the cluster");
        }
        // Logged with an advice when it began.
        DownCause::Rejoining | DownCause::Unreachable | DownCause::Stalled => {
            tracing::info!(node = %name, %address, cause = cause_text, "a member was removed");
        }
        DownCause::Restarted | DownCause::Refused | DownCause::NoAnswer | DownCause::Reported => {
            tracing::warn!(node = %name, %address, cause = cause_text, "a member is down");
        }
    }
}

fn over_limit(is_over: bool, sessions: usize, bytes: usize) {
    if is_over {
        tracing::warn!(
            sessions,
            bytes,
            "this node exceeds its limits, because it keeps copies for other nodes: it creates no \
             sessions; give all nodes the same `max_sessions` and `max_bytes`"
        );
    } else {
        tracing::info!(sessions, bytes, "this node is within its limits again");
    }
}

fn excluded(exclusion: &Exclusion) {
    match exclusion {
        Exclusion::Name(node) => tracing::error!(
            node = %node.name,
            address = %node.address,
            "an older node has the same name: this node serves no sessions; give each node a name \
             of its own"
        ),
        Exclusion::Full => tracing::error!(
            "the cluster has the maximum number of older members: this node serves no sessions"
        ),
    }
}

/// Logs what prevents this node from serving or from reaching a member, and the end of it.
fn report_problem(notification: &Notification) {
    match notification {
        Notification::Unreachable(node) => tracing::warn!(
            node = %node.name,
            address = %node.address,
            "declared a member down that other members reach and this node does not; check the \
             network and the firewalls between the two nodes"
        ),
        Notification::Stalled(node) => tracing::warn!(
            node = %node.name,
            address = %node.address,
            "declared a member down that answers but receives no data; check the network for a \
             path that drops large packets"
        ),
        Notification::Quarantined(time) => tracing::error!(
            elapsed_ms = time.as_millis() as u64,
            "this node keeps being removed from the cluster although it is running; some member \
             cannot reach it. It serves no sessions for this time, and then tries again; check \
             the network and the firewalls between all nodes"
        ),
        Notification::Ready { loss_window } if loss_window.is_zero() => {
            tracing::info!("this node serves sessions");
        }
        Notification::Ready { loss_window } => tracing::warn!(
            elapsed_ms = loss_window.as_millis() as u64,
            "this node serves sessions, but some peers do not answer and may have sessions: until \
             they answer, or until this time has passed, an unknown session is an error"
        ),
        Notification::Rejoining(_) => tracing::warn!(
            "this node was declared down, or was paused for so long that it may have been: it \
             serves no sessions until it has joined again"
        ),
        _ => {}
    }
}
