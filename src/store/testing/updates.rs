//! Rules about updates by key, without a request.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::{SessionError, SessionErrorKind, StoreErrorKind};
use crate::session::attribute::Attribute;
use crate::session::{Changes, Root, Value};
use crate::store::testing::{
    Broken, Created, Handle, Lives, Nodes, Suite, Verdict, broken, find, must,
};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("an update by key replaces one attribute", replaces);
    suite.rule("an update by key creates no session", creates_none);
    suite.rule("an update by key is no access", no_access);
    suite.rule("concurrent updates by key all count", all_count);
}

const COUNT: Attribute<u32> = Attribute::new("count");

async fn replaces(nodes: Nodes) -> Verdict {
    let session = nodes.create_counted(Lives::long()).await?;
    for (turn, expected) in [(0, 1), (1, 2), (0, 3)] {
        let store = nodes.turn(turn);
        let new = store.update(&session.key, COUNT, next).await?;
        must(new == Some(expected), "the result is not the new value")?;
        for store in nodes.both() {
            let Some(record) = store.peek(&session.key).await? else {
                return broken("a live session cannot be peeked");
            };
            must(
                record.get_typed(COUNT)? == Some(expected),
                "the new value is not stored",
            )?;
            must(
                record.get_typed::<String>("other")?.as_deref() == Some("kept"),
                "another attribute has changed",
            )?;
        }
    }
    let refuse = |_: Option<u32>| Err::<u32, _>("no");
    let refused = nodes.one.try_update(&session.key, COUNT, refuse).await?;
    must(refused == Err("no"), "the closure's error is not returned")?;
    let kept = nodes.load(&session.key).await?.get_typed(COUNT)?;
    must(
        kept == Some(3),
        "an update that was declined changes something",
    )
}

async fn creates_none(nodes: Nodes) -> Verdict {
    let ended = nodes.create_counted(Lives::long()).await?.key;
    nodes.other.end(&ended).await?;
    for key in [ended, nodes.one.new_id().key()] {
        for store in nodes.both() {
            let updated = store.update(&key, COUNT, next).await?;
            must(updated.is_none(), "it returns a value")?;
        }
        nodes.must_be_dead(&key).await?;
    }
    Ok(())
}

/// A session that is updated all the time expires as it would have.
async fn no_access(nodes: Nodes) -> Verdict {
    let lives = Lives::of(Some(Duration::from_secs(1)), super::HOUR);
    let session = nodes.create_counted(lives).await?;
    let begun_at = Instant::now();
    for turn in 0.. {
        let store = nodes.turn(turn);
        match store.update(&session.key, COUNT, next).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            // It has expired between the write and the answer.
            Err(error) if error.kind() == UNKNOWN => {}
            Err(error) => return Err(error.into()),
        }
        let found = find(&nodes.other, &session.key).await?;
        must(
            found.is_none_or(|record| !record.has_returned()),
            "the session counts as used by its browser",
        )?;
        if begun_at.elapsed() > EXPIRED_AFTER {
            return broken("it keeps the session alive");
        }
        sleep(POLL).await;
    }
    // The other node may have a deadline that is later by the delay of a message.
    for store in nodes.both() {
        while find(store, &session.key).await?.is_some() {
            if begun_at.elapsed() > EXPIRED_AFTER {
                return broken("it keeps the session alive");
            }
            sleep(POLL).await;
        }
    }
    nodes.must_be_dead(&session.key).await
}

async fn all_count(nodes: Nodes) -> Verdict {
    let key = nodes.create_counted(Lives::long()).await?.key;
    let mut tasks = JoinSet::new();
    for turn in 0..TASKS {
        let store = nodes.turn(turn);
        tasks.spawn(async move { count(&store, &key).await });
    }
    let mut unknown = 0;
    while let Some(counted) = tasks.join_next().await {
        match counted {
            Ok(counted) => unknown += counted?,
            Err(error) => return broken(error.to_string()),
        }
    }
    let all = TASKS as u32 * UPDATES;
    must(unknown <= all / 2, "most outcomes are unknown")?;
    let found = nodes.load(&key).await?.get_typed(COUNT)?.unwrap_or(0);
    must(found >= all - unknown, "some of them are lost")?;
    must(found <= all, "some of them count twice")
}

/// Counts, and returns the number of updates of unknown outcome, such as those whose connection was
/// interrupted.
async fn count(store: &Handle, key: &Root) -> Result<u32, Broken> {
    let mut unknown = 0;
    for _ in 0..UPDATES {
        match store.update(key, COUNT, next).await {
            Ok(counted) => must(counted.is_some(), "the session is not found")?,
            Err(error) if error.kind() == UNKNOWN => unknown += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unknown)
}

fn next(count: Option<u32>) -> u32 {
    count.unwrap_or(0) + 1
}

impl Nodes {
    /// A session with another attribute.
    async fn create_counted(&self, lives: Lives) -> Result<Created, Broken> {
        let mut changes = Changes::default();
        changes.insert("other".into(), Value::encode("kept")?);
        self.create_with(lives, changes).await
    }
}

impl From<SessionError> for Broken {
    fn from(error: SessionError) -> Self {
        let how = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self(how)
    }
}

/// The outcome of a write is not known.
const UNKNOWN: SessionErrorKind = SessionErrorKind::Store(StoreErrorKind::Indeterminate);

const TASKS: usize = 4;
const UPDATES: u32 = 10;

/// By then a session with an idle timeout of a second has expired, on a busy machine as well.
const EXPIRED_AFTER: Duration = Duration::from_secs(10);

/// The interval between look-ups of a session.
const POLL: Duration = Duration::from_millis(50);
