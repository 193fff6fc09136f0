//! Rules about the sessions of a user.
//!
//! A store that does not implement them passes: it returns
//! [`Unsupported`](crate::StoreErrorKind::Unsupported).

use std::time::Duration;

use crate::error::{StoreError, StoreErrorKind};
use crate::session::attribute::Attribute;
use crate::session::{Changes, Login, Root, UserKey, index_root};
use crate::store::testing::{Broken, HOUR, Nodes, Suite, Verdict, broken, committed, find, must};
use crate::store::users::{NewLogin, register};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("a user's sessions are listed through both handles", listed);
    suite.rule(
        "all sessions of a user are deleted together and stay deleted",
        ended_together,
    );
    suite.rule("the oldest of too many sessions of a user ends", limited);
    suite.rule(
        "the list of a user's sessions is no session",
        list_is_no_session,
    );
}

async fn listed(nodes: Nodes) -> Verdict {
    let (ada, bob) = (user(), user());
    let one = nodes.log_in(0, ada, 9).await?;
    let two = nodes.log_in(1, ada, 9).await?;
    nodes.log_in(0, bob, 9).await?;
    for store in nodes.both() {
        let Some(found) = supported(store.sessions_of(ada).await)? else {
            return Ok(());
        };
        let mut keys: Vec<_> = found.iter().map(|session| session.key).collect();
        keys.sort_unstable();
        let mut expected = [one, two];
        expected.sort_unstable();
        must(keys == expected, "the list has other sessions")?;
        let labelled = found.iter().all(|it| it.label.as_deref() == Some("phone"));
        must(labelled, "the list lacks the labels of the logins")?;
        must(
            found.iter().all(|it| it.user == Some(ada)),
            "the list names another user",
        )?;
    }
    let nothing = nodes.other.sessions_of(user()).await?;
    must(nothing.is_empty(), "an unknown user has sessions")
}

async fn ended_together(nodes: Nodes) -> Verdict {
    let (ada, bob) = (user(), user());
    let one = nodes.log_in(0, ada, 9).await?;
    let two = nodes.log_in(1, ada, 9).await?;
    let other = nodes.log_in(1, bob, 9).await?;
    let Some(ended) = supported(nodes.one.end_user_except(ada, two).await)? else {
        return Ok(());
    };
    must(
        ended == 1,
        "ending all but one of two returns another number",
    )?;
    nodes.must_be_dead(&one).await?;
    nodes.load(&two).await?;
    must(
        nodes.other.end_user(ada).await? == 1,
        "ending the last one returns another number",
    )?;
    nodes.must_be_dead(&two).await?;
    must(
        nodes.one.end_user(ada).await? == 0,
        "ending none returns another number",
    )?;
    nodes.load(&other).await?;
    let again = nodes.log_in(0, ada, 9).await?;
    let listed = nodes.other.sessions_of(ada).await?;
    let keys: Vec<_> = listed.iter().map(|session| session.key).collect();
    must(keys == [again], "a later login is not the only one listed")
}

async fn limited(nodes: Nodes) -> Verdict {
    let ada = user();
    let mut all = Vec::new();
    for turn in 0..3 {
        all.push(nodes.log_in(turn, ada, 2).await?);
        // Logins are ordered by the millisecond.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if supported(nodes.one.sessions_of(ada).await)?.is_none() {
        return Ok(());
    }
    nodes.must_be_dead(&all[0]).await?;
    for key in &all[1..] {
        nodes.load(key).await?;
    }
    Ok(())
}

async fn list_is_no_session(nodes: Nodes) -> Verdict {
    let ada = user();
    let key = nodes.log_in(0, ada, 9).await?;
    let list = index_root(&ada);
    for store in nodes.both() {
        must(!store.end(&list).await?, "its key can be deleted")?;
        must(store.peek(&list).await?.is_none(), "its key can be peeked")?;
        let updated = store.update(&list, Attribute::new("a"), |_| 1).await;
        must(
            matches!(updated, Ok(None)),
            "an attribute of it can be updated",
        )?;
    }
    let Some(listed) = supported(nodes.other.sessions_of(ada).await)? else {
        return Ok(());
    };
    must(
        listed.len() == 1 && listed[0].key == key,
        "deleting its key removes sessions from it",
    )
}

impl Nodes {
    /// A new session, to which the user logs in, through one of the handles.
    async fn log_in(&self, turn: usize, user: UserKey, max: usize) -> Result<Root, Broken> {
        let store = self.turn(turn);
        let id = store.new_id();
        let key = id.key();
        let mut changes = Changes::create(id.hash(), Some(HOUR), 24 * HOUR);
        changes.log_in(Login {
            user: Some(user),
            absolute_timeout: 24 * HOUR,
        });
        let record = committed(store.commit(&key, None, changes).await?)?;
        if find(&self.other, &key).await?.and_then(|it| it.user()) != Some(user) {
            return broken("a session that is created by a login has no user");
        }
        let login = NewLogin {
            user,
            key,
            label: Some("phone".to_owned()),
            absolute_timeout: 24 * HOUR,
            record,
            max_sessions: max,
        };
        register(&*store, login).await?;
        Ok(key)
    }
}

/// The answer; `None` if the store does not support the call.
fn supported<T>(answer: Result<T, StoreError>) -> Result<Option<T>, Broken> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == StoreErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A user of no other rule.
fn user() -> UserKey {
    UserKey::of(&Root::generate().to_string())
}
