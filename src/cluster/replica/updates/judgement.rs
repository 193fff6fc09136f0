//! What is to be said of an update when its turn has come.

use std::sync::Arc;

use crate::session::{Record, Rotation, Timestamp, UPDATES_MAX};

use crate::cluster::replica::message::{Operation, Update, UpdateStatus};
use crate::cluster::replica::table::Table;

/// Whether the other holders should be asked first: the asker has seen what is not here.
pub(super) fn is_behind(update: &Update, table: &Table) -> bool {
    match table.record(&update.key) {
        Some(record) => {
            let expect = update.expect.as_ref();
            expect.is_some_and(|(name, stamp)| *stamp > record.stamp(name))
        }
        None => !matches!(update.order, Operation::Create(_)) && table.is_absent(&update.key),
    }
}

/// The session that the update may be applied to, or the verdict. `certain`: a session that is not
/// here is nowhere.
pub(super) fn judge(
    now: Timestamp,
    update: &Update,
    certain: bool,
    table: &Table,
) -> Result<Arc<Record>, UpdateStatus> {
    let Some(attempt) = update.fragment.updates.first() else {
        return Err(UpdateStatus::Conflict);
    };
    let found = table.record(&update.key);
    let rotation = update.rotation.as_ref();
    if let Some(record) = &found
        && record.updates().contains(attempt)
    {
        // Another rotation may have followed, and the secret of this one be dead already.
        let is_in_force = rotation.is_none_or(|rotation| record.is_current(&rotation.to));
        return Err(match is_in_force {
            true => UpdateStatus::Applied,
            false => UpdateStatus::Superseded,
        });
    }
    let record = match found {
        Some(record) if record.is_live(now) => record,
        // It leaves a tombstone.
        Some(record) if update.order == Operation::Delete => return Ok(record),
        found => return absence(update, certain, found.is_none(), table),
    };
    let known = record.updates();
    let forgotten = known.len() == UPDATES_MAX && known.last().is_some_and(|last| attempt < last);
    let is_superseded = |rotation: &Rotation| !record.is_current(&rotation.from);
    let verdict = match &update.expect {
        _ if matches!(update.order, Operation::Create(_)) => UpdateStatus::Conflict,
        _ if rotation.is_some_and(is_superseded) => UpdateStatus::Superseded,
        Some((name, stamp)) if record.stamp(name) != *stamp => UpdateStatus::Conflict,
        _ if table.is_too_large(&record, &update.fragment) => UpdateStatus::TooLarge,
        _ if table.is_full_for(now, &record, &update.fragment) => UpdateStatus::Full,
        _ => return Ok(record),
    };
    Err(if update.retry && forgotten {
        UpdateStatus::Indeterminate
    } else {
        verdict
    })
}

/// The same where there is no live session. `unknown`: nor one that has expired.
fn absence(
    update: &Update,
    certain: bool,
    unknown: bool,
    table: &Table,
) -> Result<Arc<Record>, UpdateStatus> {
    let dead = table.is_dead(&update.key);
    match &update.order {
        Operation::Create(record) if !dead && table.is_full(record.payload_bytes()) => {
            Err(UpdateStatus::Full)
        }
        Operation::Create(record) if !dead => Ok(record.clone()),
        // The attempt before may have deleted it.
        Operation::Delete if dead && update.retry => Err(UpdateStatus::Applied),
        // It may have been lost, and come back.
        _ if !dead && !certain => Err(UpdateStatus::Indeterminate),
        // It may have been applied before the session expired and was forgotten.
        Operation::Update if unknown && !dead && update.retry => Err(UpdateStatus::Indeterminate),
        Operation::Create(_) | Operation::Update | Operation::Delete => Err(UpdateStatus::Gone),
    }
}
