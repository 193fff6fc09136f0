//! Which sessions there are.

use super::{Nodes, Suite, Verdict, committed, conflict, holds, insert, must};
use crate::session::{Changes, Outcome};
use crate::store::SessionStore;

pub(super) fn rules<S: SessionStore>(suite: &mut Suite<S>) {
    suite.rule("what was never created is absent", absent);
    suite.rule("what one handle creates, the other finds", created);
    suite.rule("a session is created once", created_once);
    suite.rule("an ended session stays dead", ended);
    suite.rule("a rotated session is found under its new key only", rotated);
    suite.rule("a refused commit does not rotate", rotation_refused);
}

async fn absent<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    nodes.must_be_dead(&nodes.one.new_id().key()).await
}

async fn created<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    let session = nodes.create("a", "1").await?;
    must(
        holds(&session.record, &[("a", "1")]),
        "the answer to the commit lacks what was committed",
    )?;
    for store in nodes.both() {
        let found = store.load(&session.key).await?;
        let same = found.is_some_and(|found| found.registers() == session.record.registers());
        must(same, "a load differs from what the commit answered")?;
    }
    Ok(())
}

async fn created_once<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    let session = nodes.create("a", "1").await?;
    for store in nodes.both() {
        let mut again = Changes::create(None, super::HOUR);
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

async fn ended<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    let session = nodes.create("a", "1").await?;
    must(
        nodes.other.end(&session.key).await?,
        "ending a live session says that there was none",
    )?;
    nodes.must_be_dead(&session.key).await?;

    let mut rotation = Changes::default();
    let successor = session.id.rotate().key();
    rotation.rotate_to(successor);
    let base = Some(&session.record);
    let outcome = nodes.one.commit(&session.key, base, rotation).await?;
    must(outcome == Outcome::Gone, "an ended session can be rotated")?;
    nodes.must_be_dead(&successor).await?;

    let late = insert("a", "2");
    let outcome = nodes.one.commit(&session.key, base, late).await?;
    must(
        outcome == Outcome::Gone,
        "a commit by somebody who had loaded it is not answered with Gone",
    )?;
    nodes.must_be_dead(&session.key).await
}

async fn rotated<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let successor = session.id.rotate().key();
    let mut rotation = insert("b", "2");
    rotation.rotate_to(successor);
    let base = Some(&session.record);
    committed(nodes.one.commit(&session.key, base, rotation).await?)?;

    nodes.must_be_dead(&session.key).await?;
    let outcome = nodes
        .one
        .commit(&session.key, base, insert("c", "3"))
        .await?;
    must(
        outcome == Outcome::Gone,
        "a commit under the old key is not answered with Gone",
    )?;
    for store in nodes.both() {
        let found = store.load(&successor).await?;
        must(
            found.is_some_and(|found| holds(&found, &[("a", "1"), ("b", "2")])),
            "the new key does not hold the session with what was written along",
        )?;
    }
    must(
        nodes.other.end(&successor).await?,
        "ending the rotated session says that there was none",
    )?;
    nodes.must_be_dead(&successor).await
}

async fn rotation_refused<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    let session = nodes.create("a", "1").await?;
    let successor = session.id.rotate().key();
    let mut rotation = insert("a", "2");
    rotation.expect("a".into(), None);
    rotation.rotate_to(successor);
    let base = Some(&session.record);
    conflict(nodes.one.commit(&session.key, base, rotation).await?)?;
    nodes.must_be_dead(&successor).await?;
    let found = nodes.load(&session.key).await?;
    must(holds(&found, &[("a", "1")]), "the session was changed")
}
