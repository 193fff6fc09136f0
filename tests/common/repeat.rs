//! Repetition of a test that a busy machine has disturbed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs a case, and again if it has failed and `pauses` then has log lines which prove that the
/// machine has paused a node for so long that it had to join again. Without such a line the case
/// fails at once.
pub(crate) fn repeat_if_paused(mut case: impl FnMut(), mut pauses: impl FnMut() -> Vec<String>) {
    for round in 1.. {
        let Err(failure) = catch_unwind(AssertUnwindSafe(&mut case)) else {
            return;
        };
        let pauses = pauses();
        if pauses.is_empty() || round == ROUNDS {
            resume_unwind(failure);
        }
        eprintln!(
            "repeated, because a node was paused in round {round}:\n{}",
            pauses.join("\n")
        );
    }
}

/// What disturbs one round in five disturbs four in a row less than twice in a thousand times.
const ROUNDS: usize = 4;
