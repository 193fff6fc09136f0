//! Rollback of rotations whose new id has reached no browser.
//!
//! A rotation with an unknown outcome is answered with an error, and the browser keeps the former
//! id. If the rotation took effect after all, that id is not valid and its user is logged out.
//! Therefore a task tries to write the former secret back, with the user and the values that the
//! session had before: data written by a login must not be readable with an id from before it. The
//! store applies this only if the rotation is in force. Values that other requests have written
//! since are kept.
//!
//! The task ends when the rotation is rolled back, when the store answers that it is not in force
//! and it can no longer take effect, or after a minute.

use std::error::Error;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, sleep};
use tracing::{debug, warn};

use crate::clock;
use crate::middleware::config::Config;
use crate::session::{Changes, Loaded, Login, Outcome, Record, Root, Rotation};
use crate::store::users;

/// The data needed to take a rotation back.
pub(super) struct Rollback {
    rotation: Rotation,
    /// The session as loaded by the request that rotates it.
    before: Arc<Record>,
    changes: Changes,
}

impl Rollback {
    /// The rollback of `changes`, if they rotate a session's id.
    pub(super) fn of(base: Option<&Arc<Record>>, changes: &Changes) -> Option<Self> {
        Some(Self {
            rotation: changes.rotation()?,
            before: base?.clone(),
            changes: changes.clone(),
        })
    }

    /// Starts to take the rotation back. Outside a tokio runtime there are no tasks, and it stays.
    pub(super) fn begin(self, config: Arc<Config>, key: Root) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        match TASKS.try_acquire() {
            Ok(permit) => drop(runtime.spawn(async move {
                self.run(&config, &key).await;
                drop(permit);
            })),
            Err(_) => give_up(&key),
        }
    }

    async fn run(&self, config: &Config, key: &Root) {
        let begun_at = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let is_late = begun_at.elapsed() >= LATE_AFTER;
            match self.attempt(config, key).await {
                Attempt::Done => {
                    debug!(%key, "a rotation of unknown outcome was rolled back");
                    break;
                }
                Attempt::Gone => return,
                // Or an earlier attempt has taken it back, and its outcome was unknown.
                Attempt::NotInForce if is_late => break,
                Attempt::NotInForce | Attempt::Failed => {}
            }
            if begun_at.elapsed() >= GIVE_UP_AFTER {
                return give_up(key);
            }
            sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
        self.follow(config, key).await;
    }

    /// All sessions of the user that the session has again may have been ended while it had another
    /// one. Then it is ended as well.
    async fn follow(&self, config: &Config, key: &Root) {
        let moved = self.rotation.login.is_some();
        let Some(user) = self.before.user().filter(|_| moved) else {
            return;
        };
        let mut wait = FIRST_WAIT;
        for _ in 0..FOLLOW_TRIES {
            match users::end_unlisted(&*config.store, &user, key).await {
                Ok(()) => return,
                Err(error) => {
                    debug!(%key, cause = &error as &dyn Error, "could not check a user's session list");
                }
            }
            sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
        }
        warn!(%key, "a session may have survived `end_user`; call it again");
    }

    async fn attempt(&self, config: &Config, key: &Root) -> Attempt {
        let current = match config.store.load(key, None).await {
            Ok(Loaded::Live(record)) => record,
            Ok(Loaded::Absent) => return Attempt::Gone,
            Ok(Loaded::Superseded) | Err(_) => return Attempt::Failed,
        };
        let changes = self.reverse(&current);
        match config.store.commit(key, Some(&current), changes).await {
            Ok(Outcome::Committed(_)) => Attempt::Done,
            Ok(Outcome::Gone) => Attempt::Gone,
            Ok(Outcome::Superseded | Outcome::Conflict(_)) => Attempt::NotInForce,
            Err(_) => Attempt::Failed,
        }
    }

    /// The changes that take the rotation back, given the session's current state.
    fn reverse(&self, current: &Record) -> Changes {
        let mut back = Changes::default();
        back.rotate(self.rotation.to, self.rotation.from);
        if self.rotation.login.is_some() {
            back.log_in(Login {
                user: self.before.user(),
                absolute_timeout: self.before.absolute_deadline().since(clock::now()),
            });
        }
        // A copy from before the rotation does not show which values were written after it.
        let is_after = current.is_current(&self.rotation.to);
        for (name, written) in self.changes.writes() {
            if is_after && current.get(name) != written.as_ref() {
                continue;
            }
            match self.before.get(name) {
                Some(value) => back.insert(name.clone(), value.clone()),
                None => back.remove(name.clone()),
            }
        }
        if let Some(idle) = self.changes.idle_timeout()
            && !(is_after && current.idle_timeout() != idle)
        {
            back.set_idle_timeout(self.before.idle_timeout());
        }
        back
    }
}

/// The result of one attempt.
enum Attempt {
    Done,
    /// The session does not exist any more.
    Gone,
    /// The session does not have the secret of the rotation, which may still be on its way.
    NotInForce,
    Failed,
}

fn give_up(key: &Root) {
    warn!(%key, "a rotation may have taken effect without its cookie; the user may have to log in again");
}

/// Limits the rollbacks that run at once. Further rotations stay in force.
static TASKS: Semaphore = Semaphore::const_new(TASKS_MAX);

const TASKS_MAX: usize = 4_096;

/// How long a task tries: as long as requests with the former id get no new session.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// After this time, a rotation that is not in force can no longer take effect: stores give up
/// sooner.
const LATE_AFTER: Duration = Duration::from_secs(10);

/// How often the list of a user is checked after a session of that user was rolled back.
const FOLLOW_TRIES: usize = 12;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{SecretHash, Timestamp, UserKey, Value};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const FORMER: SecretHash = SecretHash::from_bytes([1; 16]);
    const NEXT: SecretHash = SecretHash::from_bytes([2; 16]);

    fn write(changes: &mut Changes, name: &str, text: &str) {
        changes.insert(name.into(), Value::from_bytes(text.as_bytes()));
    }

    fn committed(changes: &Changes, current: Option<&Arc<Record>>) -> Arc<Record> {
        match changes.apply_as(current, None, NOW, 1) {
            Outcome::Committed(record) => record,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    /// A session, a login in it, and the rollback of the login.
    fn login() -> (Arc<Record>, Arc<Record>, Rollback) {
        let mut birth = Changes::create(FORMER, Some(HOUR), 24 * HOUR);
        write(&mut birth, "a", "1");
        write(&mut birth, "b", "1");
        let before = committed(&birth, None);
        let mut login = Changes::default();
        login.rotate(FORMER, NEXT);
        login.log_in(Login {
            user: Some(UserKey::of("ada")),
            absolute_timeout: 48 * HOUR,
        });
        write(&mut login, "a", "2");
        write(&mut login, "c", "2");
        login.remove("b".into());
        login.set_idle_timeout(None);
        let after = committed(&login, Some(&before));
        let rollback = Rollback::of(Some(&before), &login).expect("it rotates");
        (before, after, rollback)
    }

    fn text(record: &Record, name: &str) -> Option<String> {
        let bytes = record.get(name)?.as_bytes();
        Some(String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[test]
    fn what_a_login_did_is_undone_and_what_came_after_it_stays() {
        let (before, after, rollback) = login();
        let mut late = Changes::default();
        write(&mut late, "a", "3");
        write(&mut late, "d", "3");
        late.set_idle_timeout(Some(2 * HOUR));
        let current = committed(&late, Some(&after));
        for (current, a, d, idle) in [
            (&after, "1", None, HOUR),
            (&current, "3", Some("3"), 2 * HOUR),
        ] {
            let record = committed(&rollback.reverse(current), Some(current));
            assert!(record.is_current(&FORMER));
            assert_eq!(record.user(), None);
            assert_eq!(text(&record, "a").as_deref(), Some(a));
            assert_eq!(text(&record, "b").as_deref(), Some("1"));
            assert_eq!(text(&record, "c"), None);
            assert_eq!(text(&record, "d").as_deref(), d);
            assert_eq!(record.idle_timeout(), Some(idle));
        }
        // A copy that lags does not have the login: all of it is undone.
        let record = committed(&rollback.reverse(&before), Some(&after));
        assert_eq!(text(&record, "a").as_deref(), Some("1"));
        assert_eq!(text(&record, "c"), None);
    }

    #[test]
    fn a_rotation_that_is_not_in_force_is_not_undone() {
        let (before, after, rollback) = login();
        let refused = rollback
            .reverse(&before)
            .apply_as(Some(&before), None, NOW, 1);
        assert_eq!(refused, Outcome::Superseded);
        let mut next = Changes::default();
        next.rotate(NEXT, SecretHash::from_bytes([3; 16]));
        let later = committed(&next, Some(&after));
        let refused = rollback
            .reverse(&later)
            .apply_as(Some(&later), None, NOW, 1);
        assert_eq!(refused, Outcome::Superseded);
    }

    /// A session of Ada's becomes one of Bob's in a login that is rolled back. All of Ada's
    /// sessions are ended in between, or else it is hers again.
    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn what_is_taken_back_is_no_session_of_a_user_who_was_ended_meanwhile() {
        use crate::{MemoryStore, SessionLayer, SessionStore};
        for is_ended in [true, false] {
            let store = MemoryStore::new();
            let config = SessionLayer::new(store.clone()).into_config();
            let key = store.new_id().key();
            let ada = UserKey::of("ada");
            let mut birth = Changes::create(FORMER, Some(HOUR), 24 * HOUR);
            birth.log_in(config.login(ada));
            let before = stored(&store, &key, None, birth).await;
            let listed = config.register(key, ada, None, &before).await;
            listed.expect("the store answers");
            let mut login = Changes::default();
            login.rotate(FORMER, NEXT);
            login.log_in(config.login(UserKey::of("bob")));
            let rollback = Rollback::of(Some(&before), &login).expect("it rotates");
            stored(&store, &key, Some(&before), login).await;
            if is_ended {
                assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
            }
            rollback.run(&config, &key).await;
            let found = store.peek(&key).await.expect("the store answers");
            assert_eq!(found.is_none(), is_ended, "{found:?}");
        }
    }

    #[cfg(feature = "memory")]
    async fn stored(
        store: &crate::MemoryStore,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Arc<Record> {
        use crate::SessionStore;
        match store.commit(key, base, changes).await {
            Ok(Outcome::Committed(record)) => record,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    #[test]
    fn changes_without_a_rotation_are_not_undone() {
        let (before, ..) = login();
        let mut changes = Changes::default();
        write(&mut changes, "a", "2");
        assert!(Rollback::of(Some(&before), &changes).is_none());
    }
}
