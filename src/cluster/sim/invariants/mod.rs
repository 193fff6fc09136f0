//! What must always hold, one file each. Each one panics with what was broken.

mod acknowledged_survives;
mod ended_stays_ended;
mod expires;
mod holders_agree;
mod updates_count_once;

pub(super) use acknowledged_survives::acknowledged_survives;
pub(super) use ended_stays_ended::ended_stays_ended;
pub(super) use expires::expires;
pub(super) use holders_agree::holders_agree;
pub(super) use updates_count_once::{update_is_new, updates_count_once};
