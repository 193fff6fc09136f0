//! What must hold when requests come at once.

use std::sync::Arc;

use tokio::task::{self, JoinHandle};

use super::{Broken, Created, Nodes, Suite, Verdict, broken, committed, holds, insert, must, text};
use crate::error::StoreError;
use crate::session::{Changes, Outcome, Record, Root};
use crate::store::SessionStore;

pub(super) fn rules<S: SessionStore>(suite: &mut Suite<S>) {
    suite.rule(
        "parallel writes of different attributes are all kept",
        writes,
    );
    suite.rule("parallel updates of one attribute all count", updates);
    suite.rule("what ends stays dead, whatever is in flight", ends);
    suite.rule("a rotation loses no acknowledged write", rotation);
    suite.rule("of two rotations at once, one takes place", rotations);
}

async fn writes<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    const WRITERS: usize = 64;
    let session = nodes.create("a", "1").await?;
    let names: Vec<String> = (0..WRITERS).map(|n| format!("name {n}")).collect();
    let tasks = names
        .iter()
        .enumerate()
        .map(|(turn, name)| send(nodes.turn(turn), &session, insert(name, name)));
    for outcome in all(tasks.collect()).await? {
        committed(outcome?)?;
    }
    for store in nodes.both() {
        let found = store.load(&session.key).await?;
        let kept = |record: Arc<Record>| names.iter().all(|n| record.get(n) == Some(&text(n)));
        must(found.is_some_and(kept), "some are lost")?;
    }
    Ok(())
}

async fn updates<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    const UPDATES: usize = 100;
    let session = nodes.create("n", "0").await?;
    let tasks = (0..UPDATES).map(|turn| {
        let (store, key) = (nodes.turn(turn), session.key);
        task::spawn(async move { increment(&*store, &key).await })
    });
    for update in all(tasks.collect()).await? {
        update?;
    }
    let found = nodes.load(&session.key).await?;
    let count = number(&found)?;
    must(
        count == UPDATES,
        &format!("{UPDATES} were acknowledged, {count} are counted"),
    )
}

/// Adds one to the attribute `n`, as an atomic update does it.
async fn increment<S: SessionStore>(store: &S, key: &Root) -> Verdict {
    let Some(mut current) = store.load(key).await? else {
        return broken("the session is lost meanwhile");
    };
    // As a handler would that thinks before it writes: everybody has loaded the same number.
    task::yield_now().await;
    loop {
        let mut changes = insert("n", &(number(&current)? + 1).to_string());
        changes.expect("n".into(), current.stamp("n"));
        match store.commit(key, Some(&current), changes).await? {
            Outcome::Committed(_) => return Ok(()),
            Outcome::Conflict(newer) => {
                must(
                    newer.stamp("n") != current.stamp("n"),
                    "a conflict shows the session that was expected",
                )?;
                current = newer;
            }
            Outcome::Gone => return broken("the session is lost meanwhile"),
        }
    }
}

fn number(record: &Record) -> Result<usize, Broken> {
    let text = record
        .get("n")
        .and_then(|value| str::from_utf8(value.as_bytes()).ok());
    match text.and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => broken("the attribute is lost or changed meanwhile"),
    }
}

async fn ends<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    for round in 0..ROUNDS {
        let session = nodes.create("a", "1").await?;
        let write = |turn, name| send(nodes.turn(turn), &session, insert(name, "2"));
        let (store, key) = (nodes.turn(round + 1), session.key);
        let touch = task::spawn(async move { store.touch(&key).await });
        let mut writes = vec![write(0, "a"), write(1, "b")];
        let store = nodes.turn(round);
        let end = task::spawn(async move { store.end(&key).await });
        writes.extend([write(0, "c"), write(1, "a")]);
        for outcome in all(writes).await? {
            must(
                !matches!(outcome?, Outcome::Conflict(_)),
                "a write that expects nothing is answered with Conflict",
            )?;
        }
        for result in all(vec![touch]).await? {
            result?;
        }
        for ended in all(vec![end]).await? {
            must(ended?, "ending a live session says that there was none")?;
        }
        nodes.must_be_dead(&session.key).await?;
    }
    Ok(())
}

async fn rotation<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    for round in 0..ROUNDS {
        let session = nodes.create("a", "1").await?;
        let successor = session.id.rotate().key();
        let mut rotation = Changes::default();
        rotation.rotate_to(successor);
        // Both through one handle: between two nodes a write may miss the successor.
        let write = |name| send(nodes.turn(round), &session, insert(name, "2"));
        let flights = vec![
            write("b"),
            send(nodes.turn(round), &session, rotation),
            write("c"),
        ];
        let mut expected = vec![("a", "1")];
        for (flight, name) in all(flights).await?.into_iter().zip(["b", "", "c"]) {
            match flight? {
                Outcome::Committed(_) if !name.is_empty() => expected.push((name, "2")),
                Outcome::Gone if !name.is_empty() => {}
                rotation => drop(committed(rotation)?),
            }
        }
        nodes.must_be_dead(&session.key).await?;
        let found = nodes.load(&successor).await?;
        must(
            holds(&found, &expected),
            "the successor differs from what was acknowledged",
        )?;
    }
    Ok(())
}

async fn rotations<S: SessionStore>(nodes: Nodes<S>) -> Verdict {
    for _ in 0..ROUNDS {
        let session = nodes.create("a", "1").await?;
        let successors = [session.id.rotate().key(), session.id.rotate().key()];
        let flights = successors.iter().enumerate().map(|(turn, successor)| {
            let mut rotation = Changes::default();
            rotation.rotate_to(*successor);
            send(nodes.turn(turn), &session, rotation)
        });
        let mut winners = 0;
        for (flight, successor) in all(flights.collect()).await?.into_iter().zip(successors) {
            if let Outcome::Committed(_) = flight? {
                winners += 1;
                nodes.load(&successor).await?;
            } else {
                nodes.must_be_dead(&successor).await?;
            }
        }
        must(winners == 1, &format!("{winners} took place"))?;
        nodes.must_be_dead(&session.key).await?;
    }
    Ok(())
}

/// Sends a commit on its way, by somebody who loaded the session when it was new.
fn send<S: SessionStore>(
    store: Arc<S>,
    session: &Created,
    changes: Changes,
) -> JoinHandle<Result<Outcome, StoreError>> {
    let (key, base) = (session.key, session.record.clone());
    task::spawn(async move { store.commit(&key, Some(&base), changes).await })
}

/// Waits for all of them.
async fn all<T>(flights: Vec<JoinHandle<T>>) -> Result<Vec<T>, Broken> {
    let mut landed = Vec::with_capacity(flights.len());
    for flight in flights {
        landed.push(flight.await.or_else(|error| broken(error.to_string()))?);
    }
    Ok(landed)
}

/// How often a race is run: enough for each order to come up.
const ROUNDS: usize = 40;
