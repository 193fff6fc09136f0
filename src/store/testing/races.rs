//! Rules about concurrent requests.

use std::sync::Arc;

use tokio::task::{self, JoinHandle};

use crate::error::StoreError;
use crate::session::{Changes, Loaded, Outcome, Record, Root, SessionId};
use crate::store::testing::{
    Broken, Created, Handle, Nodes, Suite, Verdict, broken, committed, find, holds, insert, must,
    text,
};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule(
        "parallel writes of different attributes are all kept",
        writes,
    );
    suite.rule("parallel updates of one attribute all count", updates);
    suite.rule(
        "a deleted session stays deleted, whatever is in flight",
        ends,
    );
    suite.rule("a rotation loses no acknowledged write", rotation);
    suite.rule("of two rotations at once, one takes place", rotations);
}

async fn writes(nodes: Nodes) -> Verdict {
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
        let found = find(store, &session.key).await?;
        let kept = |record: Arc<Record>| names.iter().all(|n| record.get(n) == Some(&text(n)));
        must(found.is_some_and(kept), "some are lost")?;
    }
    Ok(())
}

async fn updates(nodes: Nodes) -> Verdict {
    const UPDATES: usize = 100;
    let session = nodes.create("n", "0").await?;
    let tasks = (0..UPDATES).map(|turn| {
        let (store, key) = (nodes.turn(turn), session.key);
        task::spawn(async move { increment(&store, &key).await })
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

/// Adds one to the attribute `n`, as an atomic update does.
async fn increment(store: &Handle, key: &Root) -> Verdict {
    let Some(mut current) = find(store, key).await? else {
        return broken("the session is lost meanwhile");
    };
    // As a handler does that computes before it writes: all of them have loaded the same number.
    task::yield_now().await;
    loop {
        let mut changes = insert("n", &(number(&current)? + 1).to_string());
        changes.require_version("n".into(), current.version("n"));
        match store.commit(key, Some(&current), changes).await? {
            Outcome::Committed(_) => return Ok(()),
            Outcome::Conflict(newer) => {
                must(
                    newer.version("n") != current.version("n"),
                    "a conflict shows the session that was expected",
                )?;
                current = newer;
            }
            Outcome::Superseded => return broken("an update is answered with Superseded"),
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

async fn ends(nodes: Nodes) -> Verdict {
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
            must(ended?, "deleting a live session returns false")?;
        }
        nodes.must_be_dead(&session.key).await?;
    }
    Ok(())
}

async fn rotation(nodes: Nodes) -> Verdict {
    for round in 0..ROUNDS {
        let session = nodes.create("a", "1").await?;
        let next = SessionId::with_root(session.key);
        let mut rotation = insert("d", "2");
        rotation.rotate(session.id.hash(), next.hash());
        let write = |turn, name| send(nodes.turn(round + turn), &session, insert(name, "2"));
        let flights = vec![
            write(0, "b"),
            send(nodes.turn(round), &session, rotation),
            write(0, "c"),
            write(1, "e"),
        ];
        for flight in all(flights).await? {
            committed(flight?)?;
        }
        let expected = [("a", "1"), ("b", "2"), ("c", "2"), ("d", "2"), ("e", "2")];
        for store in nodes.both() {
            let found = store.load(&session.key, Some(&next.hash())).await?;
            must(
                found.into_live().is_some_and(|it| holds(&it, &expected)),
                "the session differs from what was acknowledged",
            )?;
            let former = store.load(&session.key, Some(&session.id.hash())).await?;
            must(
                former == Loaded::Superseded,
                "the former secret is not answered with Superseded",
            )?;
        }
    }
    Ok(())
}

async fn rotations(nodes: Nodes) -> Verdict {
    for _ in 0..ROUNDS {
        let session = nodes.create("a", "1").await?;
        let next = [(); 2].map(|()| SessionId::with_root(session.key));
        let flights = next.iter().enumerate().map(|(turn, next)| {
            let mut rotation = insert(["b", "c"][turn], "2");
            rotation.rotate(session.id.hash(), next.hash());
            send(nodes.turn(turn), &session, rotation)
        });
        let mut winners = Vec::new();
        for (turn, flight) in all(flights.collect()).await?.into_iter().enumerate() {
            match flight? {
                Outcome::Committed(_) => winners.push(turn),
                Outcome::Superseded => {}
                other => drop(committed(other)?),
            }
        }
        let [winner] = winners[..] else {
            return broken(format!("{} took place", winners.len()));
        };
        let expected = [("a", "1"), (["b", "c"][winner], "2")];
        for store in nodes.both() {
            let secret = next[winner].hash();
            let found = store.load(&session.key, Some(&secret)).await?.into_live();
            must(
                found.is_some_and(|found| holds(&found, &expected)),
                "the session does not hold what the winner wrote, and that alone",
            )?;
            for loser in [session.id, next[1 - winner]] {
                let answer = store.load(&session.key, Some(&loser.hash())).await?;
                must(
                    answer == Loaded::Superseded,
                    "another secret than the winner's is not answered with Superseded",
                )?;
            }
        }
    }
    Ok(())
}

/// Starts a commit, by a request that loaded the session when it was new.
fn send(
    store: Handle,
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

/// How many times a race is run: enough for each order to occur.
const ROUNDS: usize = 40;
