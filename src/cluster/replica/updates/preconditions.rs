//! Precondition checks for an update at the session's owner.

use std::sync::Arc;

use crate::session::{Record, Rotation, Timestamp, UPDATES_MAX};

use crate::cluster::replica::message::{Operation, UpdateRequest, UpdateStatus};
use crate::cluster::replica::table::EntryTable;

/// Returns `true` if the asker has seen a state that is not here, so other holders must be asked
/// first.
pub(super) fn is_behind(update: &UpdateRequest, table: &EntryTable) -> bool {
    match table.record(&update.key) {
        Some(record) => {
            let expect = update.expect.as_ref();
            expect.is_some_and(|(name, version)| *version > record.version(name))
        }
        // It may have expired and been forgotten here only. A logout would find nothing to delete,
        // and the session stay alive at the holder where it was used last.
        None => !matches!(update.order, Operation::Create(_)) && table.is_absent(&update.key),
    }
}

/// Returns the session that the update may be applied to, or the verdict. `certain` is `true` if a
/// session that is not here does not exist.
pub(super) fn check_preconditions(
    now: Timestamp,
    update: &UpdateRequest,
    certain: bool,
    table: &EntryTable,
) -> Result<Arc<Record>, UpdateStatus> {
    let Some(attempt) = update.delta.updates.first() else {
        return Err(UpdateStatus::Conflict);
    };
    let found = table.record(&update.key);
    let rotation = update.rotation.as_ref();
    if let Some(record) = &found
        && record.updates().contains(attempt)
    {
        // Another rotation may have followed, which has replaced the secret of this one.
        let is_in_force = rotation.is_none_or(|rotation| record.is_current(&rotation.to));
        return Err(if is_in_force {
            UpdateStatus::Applied
        } else {
            UpdateStatus::Superseded
        });
    }
    let record = match found {
        Some(record) if record.is_live(now) => record,
        // It is replaced by a tombstone.
        Some(record) if update.order == Operation::Delete => return Ok(record),
        found => return check_absent(update, certain, found.is_none(), table),
    };
    let known = record.updates();
    let forgotten = known.len() == UPDATES_MAX && known.last().is_some_and(|last| attempt < last);
    let is_superseded = |rotation: &Rotation| !record.is_current(&rotation.from);
    let verdict = match &update.expect {
        _ if matches!(update.order, Operation::Create(_)) => UpdateStatus::Conflict,
        _ if rotation.is_some_and(is_superseded) => UpdateStatus::Superseded,
        Some((name, version)) if record.version(name) != *version => UpdateStatus::Conflict,
        _ if table.is_too_large(&record, &update.delta) => UpdateStatus::TooLarge,
        _ if table.is_full_for(now, &record, &update.delta) => UpdateStatus::Full,
        _ => return Ok(record),
    };
    // An earlier attempt may have been applied, before so many others that it is forgotten. The
    // caller would repeat a rejected one, and it would count twice.
    Err(if update.retry && forgotten {
        UpdateStatus::Indeterminate
    } else {
        verdict
    })
}

/// Checks an update without a live session. `unknown` is `true` if there is no expired one either.
fn check_absent(
    update: &UpdateRequest,
    certain: bool,
    unknown: bool,
    table: &EntryTable,
) -> Result<Arc<Record>, UpdateStatus> {
    let dead = table.has_ended(&update.key);
    match &update.order {
        Operation::Create(record) if !dead && table.is_full(record.payload_bytes()) => {
            Err(UpdateStatus::Full)
        }
        Operation::Create(record) if !dead => Ok(record.clone()),
        // An earlier attempt may have deleted it.
        Operation::Delete if dead && update.retry => Err(UpdateStatus::Applied),
        // It may have been lost, and come back.
        _ if !dead && !certain => Err(UpdateStatus::Indeterminate),
        // It may have been applied before the session expired and was forgotten.
        Operation::Update if unknown && !dead && update.retry => Err(UpdateStatus::Indeterminate),
        Operation::Create(_) | Operation::Update | Operation::Delete => Err(UpdateStatus::Gone),
    }
}
