//! What must always hold, one file each. Each one panics with what was broken.

mod acknowledged_survives;
mod ended_stays_dead;
mod holders_agree;
mod runs_out;
mod updates_count_once;

pub(super) use acknowledged_survives::acknowledged_survives;
pub(super) use ended_stays_dead::ended_stays_dead;
pub(super) use holders_agree::holders_agree;
pub(super) use runs_out::runs_out;
pub(super) use updates_count_once::{update_is_new, updates_count_once};
