//! Rules about session lifetimes. They use short real times and poll, so a slow machine makes the
//! suite slower but not wrong.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::session::{Changes, Outcome, Root, SessionId, Timestamp};
use crate::store::testing::{
    Access, Broken, Created, HOUR, Lives, Nodes, Suite, Verdict, broken, committed, find, insert,
    must,
};

pub(super) fn rules(suite: &mut Suite) {
    suite.rule(
        "an idle session expires, not early and not much later",
        idle,
    );
    suite.rule("accesses keep a session alive", kept_alive);
    suite.rule("nothing extends the absolute lifetime", absolute);
    suite.rule(
        "the idle timeout of one session can be shortened",
        shortened,
    );
    suite.rule(
        "the idle timeout of one session can be prolonged",
        prolonged,
    );
    suite.rule(
        "without an idle timeout only the absolute timeout counts",
        unlimited,
    );
    suite.rule(
        "a first visit is short unless the visitor returns",
        initial_idle_timeout,
    );
    suite.rule("lifetimes outlast commits, touches and rotation", preserved);
}

async fn idle(nodes: Nodes) -> Verdict {
    let session = nodes
        .create_with(Lives::of(Some(SHORT), HOUR), insert("a", "1"))
        .await?;
    must_expire(&nodes, &session.key, session.access, SHORT, false).await
}

async fn kept_alive(nodes: Nodes) -> Verdict {
    for _ in 0..ATTEMPTS {
        if keep_alive(&nodes).await? {
            return Ok(());
        }
    }
    broken(TOO_SLOW)
}

async fn absolute(nodes: Nodes) -> Verdict {
    let session = nodes
        .create_with(Lives::of(Some(HOUR), SHORT), insert("a", "1"))
        .await?;
    must_expire(&nodes, &session.key, session.access, SHORT, true).await
}

async fn shortened(nodes: Nodes) -> Verdict {
    let session = nodes
        .create_with(Lives::of(Some(HOUR), 24 * HOUR), insert("a", "1"))
        .await?;
    let access = set_idle(&nodes, &session.key, Some(SHORT)).await?;
    must_expire(&nodes, &session.key, access, SHORT, false).await
}

async fn prolonged(nodes: Nodes) -> Verdict {
    let key = extended(&nodes, Some(HOUR)).await?;
    must_outlive(&nodes, &key, LONGER).await
}

async fn unlimited(nodes: Nodes) -> Verdict {
    let key = extended(&nodes, None).await?;
    must_outlive(&nodes, &key, LONGER).await?;
    let session = nodes
        .create_with(Lives::of(None, SHORT), insert("a", "1"))
        .await?;
    must_expire(&nodes, &session.key, session.access, SHORT, false).await
}

async fn initial_idle_timeout(nodes: Nodes) -> Verdict {
    let lives = Lives {
        initial_idle_timeout: Some(LONGER),
        ..Lives::long()
    };
    for _ in 0..ATTEMPTS {
        let returned = nodes.create_with(lives, insert("a", "1")).await?;
        nodes.other.touch(&returned.key).await?;
        if returned.is_older_than(LONGER) {
            continue;
        }
        let left = nodes.create_with(lives, insert("a", "1")).await?;
        must_expire(&nodes, &left.key, left.access, LONGER, false).await?;
        let found = find(&nodes.other, &returned.key).await?;
        return must(
            found.is_some(),
            "it is short for a visitor who has returned",
        );
    }
    broken(TOO_SLOW)
}

async fn preserved(nodes: Nodes) -> Verdict {
    let session = nodes
        .create_with(Lives::of(Some(HOUR), 24 * HOUR), insert("a", "1"))
        .await?;
    let before = nodes.load(&session.key).await?;
    let access = nodes
        .one
        .commit(&session.key, Some(&before), insert("b", "2"));
    committed(access.await?)?;
    nodes.other.touch(&session.key).await?;
    let next = SessionId::with_root(session.key);
    let mut rotation = Changes::default();
    rotation.rotate(session.id.hash(), next.hash());
    committed(
        nodes
            .one
            .commit(&session.key, Some(&before), rotation)
            .await?,
    )?;

    let after = nodes.load(&session.key).await?;
    let moved = |a, b| Timestamp::since(a, b).max(Timestamp::since(b, a));
    must(
        moved(before.absolute_deadline(), after.absolute_deadline()) < GRACE,
        "the absolute deadline has moved",
    )?;
    must(
        moved(before.created_at(), after.created_at()) < GRACE,
        "the time of creation has moved",
    )?;
    must(
        after.idle_timeout() == Some(HOUR),
        "the idle timeout has changed",
    )
}

/// Polls through both handles until the session has expired, and checks that it had the full time
/// since its last `access`, and at most a tenth more.
async fn must_expire(
    nodes: &Nodes,
    key: &Root,
    access: Access,
    lifetime: Duration,
    touched_meanwhile: bool,
) -> Verdict {
    let earliest = access.before + lifetime - PRECISION;
    let latest = access.after + lifetime + lifetime / 10 + GRACE;
    let mut gone = [false; 2];
    while gone != [true; 2] {
        for (gone, store) in gone.iter_mut().zip(nodes.both()) {
            let asked = Instant::now();
            let found = find(store, key).await?.is_some();
            must(found || Instant::now() >= earliest, "it expired early")?;
            must(!found || asked <= latest, "it is found after its time")?;
            must(!found || !*gone, "it is found after it was gone")?;
            *gone = !found;
            if touched_meanwhile {
                store.touch(key).await?;
            }
        }
        sleep(POLL).await;
    }
    nodes.must_be_dead(key).await
}

/// Checks that the session exists after `lifetime` and the possible delay of its expiry have
/// passed.
async fn must_outlive(nodes: &Nodes, key: &Root, lifetime: Duration) -> Verdict {
    let end = Instant::now() + lifetime + lifetime / 10 + GRACE;
    while Instant::now() < end {
        for store in nodes.both() {
            let found = find(store, key).await?;
            must(found.is_some(), "it expires after its former idle timeout")?;
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Touches or commits to a session well within its idle timeout, for three times as long. Returns
/// `true` if this process was fast enough for that.
async fn keep_alive(nodes: &Nodes) -> Result<bool, Broken> {
    let session = nodes
        .create_with(Lives::of(Some(SHORT), HOUR), insert("a", "1"))
        .await?;
    let mut access = session.access;
    let end = access.after + 3 * SHORT;
    let mut turn = 0;
    while Instant::now() < end {
        sleep(SHORT / 4).await;
        turn += 1;
        let store = nodes.turn(turn / 2);
        let found = find(&store, &session.key).await?;
        let in_time = Instant::now() < access.before + SHORT;
        let Some(record) = found else {
            must(!in_time, "it expired although it was accessed in time")?;
            return Ok(false);
        };
        let before = Instant::now();
        if turn.is_multiple_of(2) {
            store.touch(&session.key).await?;
            // It may have come too late, which is no error.
            if Instant::now() >= access.before + SHORT {
                return Ok(false);
            }
        } else {
            let changes = insert("turn", "taken");
            let outcome = store.commit(&session.key, Some(&record), changes).await?;
            if outcome == Outcome::Gone && Instant::now() >= access.before + SHORT {
                return Ok(false);
            }
            committed(outcome)?;
        }
        let after = Instant::now();
        access = Access { before, after };
    }
    Ok(true)
}

/// A session that had `LONGER` between two accesses, and was extended in time.
async fn extended(nodes: &Nodes, idle: Option<Duration>) -> Result<Root, Broken> {
    for _ in 0..ATTEMPTS {
        let session = nodes
            .create_with(Lives::of(Some(LONGER), 24 * HOUR), insert("a", "1"))
            .await?;
        match set_idle(nodes, &session.key, idle).await {
            Ok(_) => return Ok(session.key),
            Err(_) if session.is_older_than(LONGER) => {}
            Err(how) => return Err(how),
        }
    }
    broken(TOO_SLOW)
}

async fn set_idle(nodes: &Nodes, key: &Root, idle: Option<Duration>) -> Result<Access, Broken> {
    let base = nodes.load(key).await?;
    let mut changes = Changes::default();
    changes.set_idle_timeout(idle);
    let before = Instant::now();
    committed(nodes.other.commit(key, Some(&base), changes).await?)?;
    let after = Instant::now();
    for store in nodes.both() {
        let found = find(store, key).await?;
        // It may have expired by now.
        must(
            found.is_none_or(|found| found.idle_timeout() == idle),
            "the new idle timeout is not found",
        )?;
    }
    Ok(Access { before, after })
}

impl Created {
    fn is_older_than(&self, age: Duration) -> bool {
        self.access.before.elapsed() >= age
    }
}

/// How many times a rule is tried that needs this machine to be faster than a lifetime.
const ATTEMPTS: usize = 5;
const TOO_SLOW: &str = "this machine is too slow to reach a session in its lifetime";

/// A lifetime that is to expire.
const SHORT: Duration = Duration::from_secs(1);

/// A lifetime in which a slow machine can still do something first.
const LONGER: Duration = Duration::from_secs(2);

/// The interval between look-ups of a session.
const POLL: Duration = Duration::from_millis(50);

/// Timestamps are whole milliseconds, and so may a store's deadlines be.
const PRECISION: Duration = Duration::from_millis(5);

/// How much later than promised a session may be found: a store may count time in seconds.
const GRACE: Duration = Duration::from_secs(1);
