//! Rotations that are taken back, because nobody received the new id.
//!
//! A rotation whose outcome is unknown is answered with an error, and the browser keeps the former
//! id. If the rotation took effect after all, that id is dead and its user is logged out. So a task
//! tries to write the former secret back, with the user and the values that the session had before:
//! what a login wrote must not be found under an id of the time before it. The store writes it only
//! if the rotation is in force.
//!
//! The task ends when the store has answered a few times that the rotation is not in force, or after
//! a minute.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::{Duration, Instant, sleep};
use tracing::{debug, warn};

use super::layer::Config;
use crate::clock;
use crate::session::{Changes, Login, Outcome, Record, Root};

/// What takes `changes` back, if they rotate a session's id.
pub(super) fn changes(base: Option<&Record>, changes: &Changes) -> Option<Changes> {
    let (base, rotation) = (base?, changes.rotation()?);
    let mut back = Changes::default();
    back.rotate(rotation.to, rotation.from);
    if rotation.login.is_some() {
        back.log_in(Login {
            user: base.user(),
            absolute: base.ends_at().since(clock::now()),
        });
    }
    for (name, _) in changes.writes() {
        match base.get(name) {
            Some(value) => back.insert(name.clone(), value.clone()),
            None => back.remove(name.clone()),
        }
    }
    if changes.max_inactive().is_some() {
        back.set_max_inactive(base.max_inactive_interval());
    }
    Some(back)
}

/// Begins to take a rotation back. Outside a tokio runtime there are no tasks, and it stays.
pub(super) fn begin(config: Arc<Config>, key: Root, changes: Changes) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(take_back(config, key, changes));
    }
}

async fn take_back(config: Arc<Config>, key: Root, changes: Changes) {
    let begun_at = Instant::now();
    let (mut wait, mut certain) = (FIRST_WAIT, 0);
    while begun_at.elapsed() < GIVE_UP_AFTER {
        let outcome = config.store.commit(&key, None, changes.clone()).await;
        match outcome {
            Ok(Outcome::Committed(_)) => {
                debug!(%key, "a rotation of unknown outcome was taken back");
                return;
            }
            Ok(Outcome::Gone) => return,
            Ok(Outcome::Superseded | Outcome::Conflict(_)) => {
                // It may be on its way still.
                certain += 1;
                if certain == ANSWERS {
                    return;
                }
            }
            Err(_) => {}
        }
        sleep(wait).await;
        wait = (2 * wait).min(LONGEST_WAIT);
    }
    warn!(%key, "it is not known whether a rotation took effect: its user may have to log in again");
}

/// How long the task tries: as long as requests with the former id get no new session.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How often the store has to answer that the rotation is not in force.
const ANSWERS: u32 = 3;
