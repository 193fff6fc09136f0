//! Rules about the existence of sessions.

use crate::session::{Changes, Loaded, Outcome, SessionId};
use crate::store::testing::{Nodes, Suite, Verdict, conflict, find, holds, insert, must};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule("what was never created is absent", absent);
    suite.rule("what one handle creates, the other finds", created);
    suite.rule("a session is created once", created_once);
    suite.rule("a deleted session stays deleted", ended);
}

async fn absent(nodes: Nodes) -> Verdict {
    nodes.must_be_dead(&nodes.one.new_id().key()).await
}

async fn created(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    must(
        holds(&session.record, &[("a", "1")]),
        "the answer to the commit lacks what was committed",
    )?;
    for store in nodes.both() {
        let found = find(store, &session.key).await?;
        let same = found.is_some_and(|found| found.entries() == session.record.entries());
        must(same, "a load differs from what the commit answered")?;
    }
    Ok(())
}

async fn created_once(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    for store in nodes.both() {
        let secret = SessionId::with_root(session.key).hash();
        let mut again = Changes::create(secret, None, super::HOUR);
        again.insert("b".into(), super::text("2"));
        let current = conflict(store.commit(&session.key, None, again).await?)?;
        must(
            holds(&current, &[("a", "1")]),
            "the conflict does not show the session as it stands",
        )?;
    }
    let found = nodes.load(&session.key).await?;
    must(
        holds(&found, &[("a", "1")]),
        "creating it again changed the session",
    )
}

async fn ended(nodes: Nodes) -> Verdict {
    let session = nodes.create("a", "1").await?;
    must(
        nodes.other.end(&session.key).await?,
        "deleting a live session returns false",
    )?;
    nodes.must_be_dead(&session.key).await?;
    for store in nodes.both() {
        let answer = store.load(&session.key, Some(&session.id.hash())).await?;
        must(
            answer == Loaded::Absent,
            "its secret is not answered with Absent",
        )?;
    }

    let mut rotation = Changes::default();
    let next = SessionId::with_root(session.key);
    rotation.rotate(session.id.hash(), next.hash());
    let base = Some(&session.record);
    let outcome = nodes.one.commit(&session.key, base, rotation).await?;
    must(outcome == Outcome::Gone, "an ended session can be rotated")?;

    let late = insert("a", "2");
    let outcome = nodes.one.commit(&session.key, base, late).await?;
    must(
        outcome == Outcome::Gone,
        "a commit that follows an earlier load is not answered with Gone",
    )?;
    nodes.must_be_dead(&session.key).await
}
