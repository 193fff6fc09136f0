//! What is to be said of an update when its turn has come.

use std::sync::Arc;

use crate::session::{Record, Timestamp, UPDATES_MAX};

use super::super::message::{Order, Update, Verdict};
use super::super::table::Table;

/// What the owner knows of a session that is not here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certainty {
    /// What is not here is nowhere.
    pub(super) certain: bool,
    /// And nothing is on its way.
    pub(super) complete: bool,
}

/// Whether the other holders should be asked first: the asker has seen what is not here.
pub(super) fn is_behind(update: &Update, table: &Table) -> bool {
    match table.follow(update.key) {
        Some((_, record)) => {
            let expect = update.expect.as_ref();
            expect.is_some_and(|(name, stamp)| *stamp > record.stamp(name))
        }
        None => !matches!(update.order, Order::Create(_)) && table.is_absent(&update.key),
    }
}

/// The session that the update may be applied to, or what is to be said at once.
pub(super) fn judge(
    now: Timestamp,
    update: &Update,
    certainty: Certainty,
    table: &Table,
) -> Result<Arc<Record>, Verdict> {
    let Some(attempt) = update.fragment.updates.first() else {
        return Err(Verdict::Conflict);
    };
    // An attempt that was applied before the session moved on is found under its new id, and one
    // that was applied before the session ran out is found as well.
    let found = table.follow(update.key);
    if let Some((_, record)) = &found
        && record.updates().contains(attempt)
    {
        // Where two moves met, what the other one was applied to went on under this one's id.
        let lost = update.moves.is_some_and(|moves| {
            let known = table.moved(&update.key);
            known.is_some_and(|known| known.to != moves.to)
        });
        return Err(if lost {
            Verdict::Gone
        } else {
            Verdict::Applied
        });
    }
    let (key, record) = match found {
        Some((key, record)) if record.is_live(now) => (key, record),
        // It is to be buried.
        Some((key, record)) if update.order == Order::End && key == update.key => {
            return Ok(record);
        }
        found => return absence(update, certainty, found.is_none(), table),
    };
    let known = record.updates();
    let forgotten = known.len() == UPDATES_MAX && known.last().is_some_and(|last| attempt < last);
    let verdict = match &update.expect {
        _ if key != update.key => Verdict::Gone,
        _ if matches!(update.order, Order::Create(_)) => Verdict::Conflict,
        Some((name, stamp)) if record.stamp(name) != *stamp => Verdict::Conflict,
        _ if table.is_too_large(&record, &update.fragment) => Verdict::TooLarge,
        _ if table.is_full_for(&record, &update.fragment) => Verdict::Full,
        _ => return Ok(record),
    };
    Err(if update.retry && forgotten {
        Verdict::Unknown
    } else {
        verdict
    })
}

/// The same where there is no live session. `unknown`: nor one that has run out.
fn absence(
    update: &Update,
    certainty: Certainty,
    unknown: bool,
    table: &Table,
) -> Result<Arc<Record>, Verdict> {
    let dead = table.is_dead(&update.key);
    // Nothing is here under the last id that is known of it.
    let lost = table.lost_track(update.key);
    if dead && !certainty.complete && lost {
        // Where it has gone is still on its way here.
        return Err(Verdict::Again);
    }
    match &update.order {
        Order::Create(record) if !dead && table.is_full(record.payload_bytes()) => {
            Err(Verdict::Full)
        }
        Order::Create(record) if !dead => Ok(record.clone()),
        // Whoever asks again may have been the one who ended it.
        Order::End if dead && update.retry => Err(Verdict::Applied),
        // It may have been lost, and come back.
        _ if !dead && !certainty.certain => Err(Verdict::Unknown),
        // It may have been applied before the session ran out and was forgotten, maybe under the id
        // that it was moved to by this.
        Order::Change if unknown && lost && update.retry => Err(Verdict::Unknown),
        Order::Create(_) | Order::Change | Order::End => Err(Verdict::Gone),
    }
}
