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
pub(crate) struct Admission {
    budget: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    waiting: VecDeque<Arc<Place>>,
}

/// One message's claim to a part of the budget, which is released on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    bytes: usize,
    is_admitted: AtomicBool,
    admitted: Notify,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(ASSEMBLY_MAX)
    }
}

impl Admission {
    pub(super) const fn new(budget: usize) -> Self {
        Self {
            budget,
            state: Mutex::new(State {
                used: 0,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Requests room for a message of this size.
    pub(super) fn request(self: &Arc<Self>, bytes: usize) -> Ticket {
        let place = Arc::new(Place {
            bytes,
            is_admitted: AtomicBool::new(false),
            admitted: Notify::new(),
        });
        let mut state = self.state();
        state.waiting.push_back(place.clone());
        state.admit(self.budget);
        drop(state);
        Ticket {
            admission: self.clone(),
            place,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Admits messages from the head of the queue while there is room.
    fn admit(&mut self, budget: usize) {
        while let Some(next) = self.waiting.front()
            && (self.used == 0 || self.used.saturating_add(next.bytes) <= budget)
            && let Some(place) = self.waiting.pop_front()
        {
            self.used = self.used.saturating_add(place.bytes);
            place.is_admitted.store(true, Relaxed);
            place.admitted.notify_one();
        }
    }
}

impl Ticket {
    pub(super) fn is_admitted(&self) -> bool {
        self.place.is_admitted.load(Relaxed)
    }

    /// Waits until the message is admitted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn admitted(&self) {
        while !self.is_admitted() {
            self.place.admitted.notified().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if self.is_admitted() {
            state.used = state.used.saturating_sub(self.place.bytes);
        } else {
            state
                .waiting
                .retain(|place| !Arc::ptr_eq(place, &self.place));
        }
        state.admit(self.admission.budget);
    }
}

/// Bytes of large messages that a node assembles at the same time, on all links together: four
/// sessions of the default maximum.
const ASSEMBLY_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(tickets: &[&Ticket]) -> Vec<bool> {
        tickets.iter().map(|ticket| ticket.is_admitted()).collect()
    }

    #[test]
    fn messages_are_admitted_whole_and_in_order() {
        let admission = Arc::new(Admission::new(100));
        let one = admission.request(60);
        let two = admission.request(60);
        // There would be room, but it is not its turn.
        let three = admission.request(10);
        assert_eq!(admitted(&[&one, &two, &three]), [true, false, false]);
        drop(one);
        assert_eq!(admitted(&[&two, &three]), [true, true]);
    }

    #[test]
    fn a_message_that_is_larger_than_the_budget_is_admitted_alone() {
        let admission = Arc::new(Admission::new(100));
        let small = admission.request(1);
        let giant = admission.request(usize::MAX);
        let last = admission.request(1);
        assert_eq!(admitted(&[&small, &giant, &last]), [true, false, false]);
        drop(small);
        assert_eq!(admitted(&[&giant, &last]), [true, false]);
        drop(giant);
        assert!(last.is_admitted());
    }

    #[test]
    fn a_link_that_ends_while_its_message_waits_holds_up_no_other() {
        let admission = Arc::new(Admission::new(100));
        let _one = admission.request(60);
        let two = admission.request(60);
        let three = admission.request(40);
        drop(two);
        assert!(three.is_admitted());
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let admission = Arc::new(Admission::new(100));
        let one = admission.request(100);
        let two = admission.request(100);
        let ((), ()) = tokio::join!(two.admitted(), async { drop(one) });
        assert!(two.is_admitted());
    }
}
