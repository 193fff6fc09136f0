//! Reading a file back, and what becomes of it.
//!
//! A bad file does not keep the application from starting: it is set aside, with the reason in the
//! log, and whatever can be read of it is used. A file that could bring an ended session back is not
//! used at all.

use std::collections::HashSet;
use std::io::{self, BufReader};
use std::time::Duration;

use crate::clock;
use crate::session::Root;

use super::builder::Settings;
use super::decoder::{Contents, Reading, decode};
use super::journal::{self, Found};
use super::place::{Place, open};
use super::report::LoadReport;
use super::source::{Kept, State};

/// What was found at a place.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) kept: Vec<Kept>,
    /// Ids that have ended since the file was written.
    pub(super) ended: Vec<Root>,
    pub(super) report: LoadReport,
}

/// Reads what is at a place. What cannot be used is set aside; what can is left where it is.
///
/// No file is too old as a whole: each session in it dies at its own time, and all that is known of
/// ended ones, here and on other nodes, is kept until after that.
pub(super) fn load(place: &Place, settings: &Settings) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let journal = journal::read(place);
    if let Found::Unreadable(why) = &journal {
        place.set_aside(&place.journal, why)?;
    }
    match read(place, settings)? {
        Ok(None) => {}
        Ok(Some(contents)) => match objection(&contents, &journal) {
            Some(reason) => set_aside(place, reason, &mut loaded)?,
            None => take(place, contents, &journal, &mut loaded)?,
        },
        Err(reason) => set_aside(place, reason, &mut loaded)?,
    }
    if let Found::Keys(keys) = journal {
        loaded.ended = keys;
    }
    Ok(loaded)
}

/// Why a file must not be used although it can be read: it could bring back who has ended.
fn objection(contents: &Contents, journal: &Found) -> Option<String> {
    match journal {
        Found::Keys(_) => None,
        Found::Nothing => contents.header.journaled.then(|| {
            "the journal of what has ended since is missing: it could bring that back".to_owned()
        }),
        Found::Unreadable(why) => Some(format!(
            "the journal of what has ended since cannot be used: {why}"
        )),
    }
}

fn take(place: &Place, contents: Contents, journal: &Found, loaded: &mut Loaded) -> io::Result<()> {
    loaded.kept = contents.kept;
    loaded.report.expired = contents.expired;
    if let Found::Keys(ended) = journal {
        loaded.report.ended = bury(&mut loaded.kept, ended);
    }
    if let Some(damage) = contents.damage {
        set_aside(place, damage.to_string(), loaded)?;
    }
    if contents.unwritten > 0 {
        tracing::warn!(
            "{} does not have {} of the sessions that there were: there was no time to write them",
            place.file.display(),
            contents.unwritten
        );
    }
    Ok(())
}

/// Removes the file that has been read, so that no crash to come can bring back who ends until then.
pub(super) fn consume(place: &Place) -> io::Result<()> {
    // In this order: without its journal the file could.
    place.remove(&place.file)?;
    place.remove(&place.journal)
}

/// The file's contents, if there is one, or why it must not be used.
fn read(place: &Place, settings: &Settings) -> io::Result<Result<Option<Contents>, String>> {
    let file = match open(&place.file) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Ok(None)),
        Err(unfit) => return Ok(Err(unfit.to_string())),
    };
    let reading = Reading {
        application: &settings.application,
        key: settings.key.as_ref(),
        now: clock::now(),
        wall: clock::wall_clock(),
    };
    Ok(
        match decode(BufReader::with_capacity(BUFFER, file), reading) {
            Ok(Ok(contents)) => Ok(Some(contents)),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        },
    )
}

/// Turns sessions that have ended since into what remains of them; says how many those are.
fn bury(kept: &mut [Kept], ended: &[Root]) -> usize {
    let ended: HashSet<_> = ended.iter().collect();
    let mut buried = 0;
    for kept in kept {
        if let State::Live(record) = &kept.state
            && ended.contains(&kept.key)
        {
            let until = record.ends_at().plus(MARGIN);
            let successor = None;
            kept.state = State::Dead { until, successor };
            buried += 1;
        }
    }
    buried
}

fn set_aside(place: &Place, reason: String, loaded: &mut Loaded) -> io::Result<()> {
    place.set_aside(&place.file, &reason)?;
    loaded.report.set_aside = Some(reason);
    Ok(())
}

const BUFFER: usize = 256 << 10;
/// How long an id is known as dead after any copy of its session must be: as in a cluster.
const MARGIN: Duration = Duration::from_secs(600);
