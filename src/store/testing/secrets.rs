//! Rules about the secret that gives access to a session.

use crate::session::{Changes, Loaded, Login, Outcome, SecretHash, SessionId, Timestamp, UserKey};
use crate::store::testing::{
    Broken, Created, HOUR, Handle, Nodes, Suite, Verdict, committed, conflict, find, holds, insert,
    must,
};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("the current secret is found, and no other", current);
    suite.rule("a rotation invalidates the former secret", rotated);
    suite.rule("a write goes on over a rotation", in_flight);
    suite.rule("a rotation that comes second changes nothing", second);
    suite.rule("a refused commit does not rotate", refused);
    suite.rule("a login binds, prolongs and rotates in one step", login);
    suite.rule(
        "a session is bound to a user when it is created",
        born_bound,
    );
    suite.rule("a deletion invalidates every secret", ended);
}

async fn current(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let other = SessionId::with_root(session.key);
    for store in nodes.both() {
        must_open(store, &session.id, &[("a", "1")]).await?;
        let answer = store.load(&session.key, Some(&other.hash())).await?;
        must(
            answer == Loaded::Absent,
            "a secret that the session never had is not answered with Absent",
        )?;
    }
    Ok(())
}

async fn rotated(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let mut ids = vec![session.id];
    // Each rotation uses another handle than the one before.
    for turn in 0..3 {
        let (from, next) = (ids[turn], SessionId::with_root(session.key));
        let changes = rotation(&from, &next, insert("turn", &turn.to_string()));
        let commit = nodes.turn(turn);
        let base = nodes.load(&session.key).await?;
        let record = committed(commit.commit(&session.key, Some(&base), changes).await?)?;
        must(
            record.is_current(&next.hash()) && !record.is_current(&from.hash()),
            "the answer to a rotation does not have the new secret",
        )?;
        for store in nodes.both() {
            let all = [("a", "1"), ("turn", &turn.to_string())];
            must_open(store, &next, &all).await?;
            ids.push(SessionId::with_root(session.key));
            for former in &ids {
                must_be_superseded(store, &former.hash(), &session).await?;
            }
            ids.pop();
        }
        ids.push(next);
    }
    Ok(())
}

async fn in_flight(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let next = rotate(&nodes, &session).await?;
    let base = Some(&session.record);
    for (turn, name) in ["b", "c"].into_iter().enumerate() {
        let store = nodes.turn(turn);
        let commit = store.commit(&session.key, base, insert(name, "2"));
        let record = committed(commit.await?)?;
        must(
            record.is_current(&next.hash()),
            "the answer does not have the secret that is current",
        )?;
        store.touch(&session.key).await?;
    }
    for store in nodes.both() {
        must_open(store, &next, &[("a", "1"), ("b", "2"), ("c", "2")]).await?;
        must_be_superseded(store, &session.id.hash(), &session).await?;
    }
    Ok(())
}

async fn second(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let next = rotate(&nodes, &session).await?;
    let base = Some(&session.record);
    for store in nodes.both() {
        let late = SessionId::with_root(session.key);
        let mut changes = rotation(&session.id, &late, insert("a", "2"));
        changes.insert("b".into(), super::text("2"));
        changes.set_idle_timeout(Some(2 * HOUR));
        changes.log_in(login_of("mallory"));
        let outcome = store.commit(&session.key, base, changes).await?;
        must(
            outcome == Outcome::Superseded,
            "a rotation from a former secret is not answered with Superseded",
        )?;
        for store in nodes.both() {
            must_open(store, &next, &[("a", "1")]).await?;
            must_be_superseded(store, &late.hash(), &session).await?;
        }
    }
    let found = nodes.load(&session.key).await?;
    must(
        found.user().is_none() && found.idle_timeout() == Some(HOUR),
        "it has changed the user or the idle timeout",
    )
}

async fn refused(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let next = SessionId::with_root(session.key);
    let mut changes = rotation(&session.id, &next, insert("a", "2"));
    changes.require_version("a".into(), None);
    let base = Some(&session.record);
    conflict(nodes.one.commit(&session.key, base, changes).await?)?;
    for store in nodes.both() {
        must_open(store, &session.id, &[("a", "1")]).await?;
        let answer = store.load(&session.key, Some(&next.hash())).await?;
        must(answer == Loaded::Absent, "the new secret is known")?;
    }
    Ok(())
}

async fn login(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let before = session.record.absolute_deadline();
    let next = SessionId::with_root(session.key);
    let mut changes = rotation(&session.id, &next, insert("b", "2"));
    changes.log_in(login_of("ada"));
    let base = Some(&session.record);
    committed(nodes.one.commit(&session.key, base, changes).await?)?;
    let user = Some(UserKey::of("ada"));
    for store in nodes.both() {
        let found = must_open(store, &next, &[("a", "1"), ("b", "2")]).await?;
        must(found.user() == user, "the session is not the user's")?;
        must(
            Timestamp::since(found.absolute_deadline(), before) > 20 * HOUR,
            "the absolute lifetime does not begin anew",
        )?;
        must_be_superseded(store, &session.id.hash(), &session).await?;
    }

    // A rotation without a login keeps both, and another login replaces both.
    let bound = nodes.load(&session.key).await?;
    let after = SessionId::with_root(session.key);
    let changes = rotation(&next, &after, Changes::default());
    let commit = nodes.other.commit(&session.key, Some(&bound), changes);
    let kept = committed(commit.await?)?;
    must(
        kept.user() == user && moved(kept.absolute_deadline(), bound.absolute_deadline()) < HOUR,
        "a rotation without a login changes the user or the absolute deadline",
    )?;
    let last = SessionId::with_root(session.key);
    let mut changes = rotation(&after, &last, Changes::default());
    changes.log_in(Login {
        absolute_timeout: HOUR,
        ..login_of("bob")
    });
    committed(nodes.one.commit(&session.key, Some(&kept), changes).await?)?;
    let found = nodes.load(&session.key).await?;
    must(
        found.user() == Some(UserKey::of("bob"))
            && Timestamp::since(kept.absolute_deadline(), found.absolute_deadline()) > 40 * HOUR,
        "another login does not replace the user and the absolute deadline",
    )
}

async fn born_bound(nodes: Nodes) -> Verdict {
    let id = nodes.one.new_id();
    let mut changes = Changes::create(id.hash(), Some(HOUR), 24 * HOUR);
    changes.log_in(login_of("ada"));
    committed(nodes.one.commit(&id.key(), None, changes).await?)?;
    for store in nodes.both() {
        let found = must_open(store, &id, &[]).await?;
        must(
            found.user() == Some(UserKey::of("ada")),
            "the session is not the user's",
        )?;
    }
    Ok(())
}

async fn ended(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let next = rotate(&nodes, &session).await?;
    must(
        nodes.other.end(&session.key).await?,
        "deleting a rotated session returns false",
    )?;
    nodes.must_be_dead(&session.key).await?;
    for store in nodes.both() {
        for id in [session.id, next, SessionId::with_root(session.key)] {
            let answer = store.load(&session.key, Some(&id.hash())).await?;
            must(
                answer == Loaded::Absent,
                "a secret of it is not answered with Absent",
            )?;
        }
    }
    Ok(())
}

/// Rotates the session's secret, through the first handle.
async fn rotate(nodes: &Nodes, session: &Created) -> Result<SessionId, Broken> {
    let next = SessionId::with_root(session.key);
    let changes = rotation(&session.id, &next, Changes::default());
    let commit = nodes
        .one
        .commit(&session.key, Some(&session.record), changes);
    committed(commit.await?)?;
    Ok(next)
}

/// Checks that the id opens the session, and that it has these attributes.
async fn must_open(
    store: &Handle,
    id: &SessionId,
    expected: &[(&str, &str)],
) -> Result<std::sync::Arc<crate::session::Record>, Broken> {
    let found = store.load(&id.key(), Some(&id.hash())).await?.into_live();
    let Some(found) = found else {
        return super::broken("the current secret does not open the session");
    };
    must(
        holds(&found, expected),
        "the attributes are not what was committed",
    )?;
    Ok(found)
}

/// Checks that the secret does not open the session, and that the session exists.
async fn must_be_superseded(store: &Handle, secret: &SecretHash, session: &Created) -> Verdict {
    let answer = store.load(&session.key, Some(secret)).await?;
    must(
        answer == Loaded::Superseded,
        "another secret is not answered with Superseded after a rotation",
    )?;
    must(
        find(store, &session.key).await?.is_some(),
        "a request that has loaded the session before does not find it",
    )
}

fn rotation(from: &SessionId, to: &SessionId, mut changes: Changes) -> Changes {
    changes.rotate(from.hash(), to.hash());
    changes
}

fn login_of(user: &str) -> Login {
    Login {
        user: Some(UserKey::of(user)),
        absolute_timeout: 48 * HOUR,
    }
}

fn moved(one: Timestamp, other: Timestamp) -> std::time::Duration {
    Timestamp::since(one, other).max(Timestamp::since(other, one))
}
