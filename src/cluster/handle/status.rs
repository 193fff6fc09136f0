//! Status of the cluster as this node sees it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock;

use crate::cluster::handle::ClusterHandle;
use crate::cluster::replica::event::Exclusion;
use crate::cluster::replica::{MemberStatus, ReplicaStatus};
use crate::cluster::status::{ClusterStatus, Member, MemberState, RefusedNode};
use crate::cluster::wire::RefusalReason;

impl ClusterHandle {
    pub(crate) fn status(&self) -> ClusterStatus {
        let status = self.driver.replica.status();
        let ready = self.is_ready();
        let me = Member {
            route: status.me.name.to_string(),
            address: status.me.address,
            state: member_state(ready, self.driver.draining.load(Relaxed)),
            age: clock::now().since(self.driver.started_at),
            lag: 0,
        };
        let refused = self.refused(&status);
        let others = status.members.iter().map(|member| self.member(member));
        ClusterStatus {
            ready,
            complete: status.complete,
            stable: status.members.iter().all(|member| member.agrees),
            members: [me].into_iter().chain(others).collect(),
            copies: self.copies,
            sessions: status.sessions,
            tombstones: status.tombstones,
            bytes: status.bytes,
            over_limit: status.over_limit,
            oversized_merges: status.oversized,
            under_replicated: self.driver.replica.under_replicated(),
            degraded_acks: self.driver.degraded_acks.load(Relaxed),
            indeterminate: status.indeterminate,
            discarded_writes: status.discarded,
            rejected_connections: self.driver.admission.rejected(),
            created: self.driver.created.load(Relaxed),
            deleted: self.driver.deleted.load(Relaxed),
            expired: status.expired,
            refused,
        }
    }

    /// Returns the nodes that reject this one or that it rejects, one row each.
    fn refused(&self, status: &ReplicaStatus) -> Vec<RefusedNode> {
        let mut rows = self.driver.addresses.refused();
        if let Some(Exclusion::Name(node)) = &status.excluded {
            rows.push(RefusedNode {
                address: node.address.to_string(),
                reason: RefusalReason::Name.reason().to_owned(),
            });
        }
        rows.extend(self.driver.admission.rejections.list(clock::now()));
        let mut known: Vec<RefusedNode> = Vec::new();
        for row in rows {
            // The address of a node covers the row of its machine alone.
            let same = |other: &RefusedNode| {
                let rest = other.address.strip_prefix(&row.address);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            if !known.iter().any(same) {
                known.push(row);
            }
        }
        known
    }

    fn member(&self, member: &MemberStatus) -> Member {
        let since = self.driver.member_since(&member.node);
        Member {
            route: member.node.name.to_string(),
            address: member.node.address,
            state: member_state(member.ready, member.leaving),
            age: since.map_or(Duration::ZERO, |since| clock::now().since(since)),
            lag: member.lag,
        }
    }
}

const fn member_state(is_ready: bool, is_leaving: bool) -> MemberState {
    if is_leaving {
        MemberState::Leaving
    } else if is_ready {
        MemberState::Ready
    } else {
        MemberState::Joining
    }
}
