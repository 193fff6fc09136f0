//! Invariants of a run, one file each. A violated invariant panics with a description.

mod acknowledged_survives;
mod ended_stays_ended;
mod ended_users_stay_ended;
mod enough_copies;
mod expires;
mod holders_agree;
mod logins_survive;
mod queues_are_bounded;
mod reads_never_go_back;
mod rejected_changes_nothing;
mod removed_stays_removed;
mod slow_members_stay;
mod small_writes_progress;
mod updates_count_once;

pub(super) use acknowledged_survives::acknowledged_survives;
pub(super) use ended_stays_ended::ended_stays_ended;
pub(super) use ended_users_stay_ended::ended_users_stay_ended;
pub(super) use enough_copies::enough_copies;
pub(super) use expires::expires;
pub(super) use holders_agree::holders_agree;
pub(super) use logins_survive::logins_survive;
pub(super) use queues_are_bounded::queues_are_bounded;
pub(super) use reads_never_go_back::reads_never_go_back;
pub(super) use rejected_changes_nothing::rejected_changes_nothing;
pub(super) use removed_stays_removed::removed_stays_removed;
pub(super) use slow_members_stay::slow_members_stay;
pub(super) use small_writes_progress::{refusals_are_rare, small_writes_progress};
pub(super) use updates_count_once::{update_is_new, updates_count_once};
