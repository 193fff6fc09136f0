//! Budget for large messages that are being received, shared by all links of a node.
//!
//! A large message declares its length before most of it is sent. The link requests room for all of
//! it, and the sender waits for credit until it is admitted. If messages were admitted byte by byte
//! instead, several incomplete ones could fill the budget, and none would ever be complete.
//!
//! Messages are admitted in the order in which they were declared. One that is larger than the
//! whole budget is admitted alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::sync::lock;

/// The budget, and the messages that wait for a part of it.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    limit: usize,
    state: Mutex<BudgetState>,
}

#[derive(Debug, Default)]
struct BudgetState {
    used: usize,
    waiting: VecDeque<Arc<ClaimState>>,
}

/// One message's claim to a part of the budget, which is released on drop.
#[derive(Debug)]
pub(super) struct BudgetClaim {
    budget: Arc<ReceiveBudget>,
    state: Arc<ClaimState>,
}

#[derive(Debug)]
struct ClaimState {
    bytes: usize,
    is_admitted: AtomicBool,
    admitted: Notify,
}

impl Default for ReceiveBudget {
    fn default() -> Self {
        Self::new(ASSEMBLY_MAX)
    }
}

impl ReceiveBudget {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(BudgetState {
                used: 0,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Requests room for a message of this size.
    pub(super) fn request(self: &Arc<Self>, bytes: usize) -> BudgetClaim {
        let claim = Arc::new(ClaimState {
            bytes,
            is_admitted: AtomicBool::new(false),
            admitted: Notify::new(),
        });
        let mut state = self.state();
        state.waiting.push_back(claim.clone());
        state.admit(self.limit);
        drop(state);
        BudgetClaim {
            budget: self.clone(),
            state: claim,
        }
    }

    fn state(&self) -> MutexGuard<'_, BudgetState> {
        lock(&self.state)
    }
}

impl BudgetState {
    /// Admits messages from the head of the queue while there is room.
    fn admit(&mut self, limit: usize) {
        // Messages are admitted in order. Otherwise a stream of smaller ones could hold up a larger
        // one without end.
        while let Some(next) = self.waiting.front()
            && (self.used == 0 || self.used.saturating_add(next.bytes) <= limit)
            && let Some(claim) = self.waiting.pop_front()
        {
            self.used = self.used.saturating_add(claim.bytes);
            claim.is_admitted.store(true, Relaxed);
            claim.admitted.notify_one();
        }
    }
}

impl BudgetClaim {
    pub(super) fn is_admitted(&self) -> bool {
        self.state.is_admitted.load(Relaxed)
    }

    /// Waits until the message is admitted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn admitted(&self) {
        while !self.is_admitted() {
            self.state.admitted.notified().await;
        }
    }
}

impl Drop for BudgetClaim {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if self.is_admitted() {
            state.used = state.used.saturating_sub(self.state.bytes);
        } else {
            state
                .waiting
                .retain(|claim| !Arc::ptr_eq(claim, &self.state));
        }
        state.admit(self.budget.limit);
    }
}

/// Bytes of large messages that a node assembles at the same time, on all links together: four
/// sessions of the default maximum.
const ASSEMBLY_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(claims: &[&BudgetClaim]) -> Vec<bool> {
        claims.iter().map(|claim| claim.is_admitted()).collect()
    }

    #[test]
    fn messages_are_admitted_whole_and_in_order() {
        let budget = Arc::new(ReceiveBudget::new(100));
        let one = budget.request(60);
        let two = budget.request(60);
        // There would be room, but it is not its turn.
        let three = budget.request(10);
        assert_eq!(admitted(&[&one, &two, &three]), [true, false, false]);
        drop(one);
        assert_eq!(admitted(&[&two, &three]), [true, true]);
    }

    #[test]
    fn a_message_that_is_larger_than_the_budget_is_admitted_alone() {
        let budget = Arc::new(ReceiveBudget::new(100));
        let small = budget.request(1);
        let giant = budget.request(usize::MAX);
        let last = budget.request(1);
        assert_eq!(admitted(&[&small, &giant, &last]), [true, false, false]);
        drop(small);
        assert_eq!(admitted(&[&giant, &last]), [true, false]);
        drop(giant);
        assert!(last.is_admitted());
    }

    #[test]
    fn a_link_that_ends_while_its_message_waits_holds_up_no_other() {
        let budget = Arc::new(ReceiveBudget::new(100));
        let _one = budget.request(60);
        let two = budget.request(60);
        let three = budget.request(40);
        drop(two);
        assert!(three.is_admitted());
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let budget = Arc::new(ReceiveBudget::new(100));
        let one = budget.request(100);
        let two = budget.request(100);
        let ((), ()) = tokio::join!(two.admitted(), async { drop(one) });
        assert!(two.is_admitted());
    }
}
