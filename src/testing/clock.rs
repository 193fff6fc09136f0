//! The clock of a test.

use std::fmt;
use std::time::Duration;

use crate::clock::Shift;

/// The clock by which sessions expire, in the tokio runtime of one test: "eight hours later"
/// without waiting.
///
/// Layers and stores that are used in the runtime follow it, whenever they were made. Other
/// runtimes do not: tests with `#[tokio::test]` that run at the same time do not disturb each
/// other. It exists with the feature `testing` only.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
/// use distributable::testing::{CookieJar, TestClock, TestSession};
/// use distributable::{MemoryStore, Session, SessionLayer};
/// use tower::ServiceExt;
///
/// async fn account(session: Session) -> StatusCode {
///     if session.user().is_some() { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
/// }
///
/// let store = MemoryStore::new();
/// let app: Router = Router::new()
///     .route("/account", get(account))
///     .layer(SessionLayer::new(store.clone()));
/// let clock = TestClock::new();
/// let mut jar = CookieJar::new();
/// let id = TestSession::new().with_user("ada").create(&store).await?;
/// jar.set("JSESSIONID", id.expose());
///
/// let (ok, unauthorized) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
/// for (minutes, status) in [(20, ok), (20, ok), (8 * 60, unauthorized)] {
///     clock.advance(Duration::from_secs(minutes * 60));
///     let request = jar.attach(Request::get("/account").body(Body::empty())?);
///     assert_eq!(app.clone().oneshot(request).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
///
/// # What it moves
///
/// The time of sessions: idle and absolute timeouts, the times that [`Session`](crate::Session)
/// returns, and the renewal of cookies. Expired sessions leave the memory of a
/// [`MemoryStore`](crate::store) within a second of real time, as usual.
///
/// It does not move timers, such as those of tower-http's timeouts or of `tokio::time::sleep`. In a
/// current-thread runtime, `tokio::time::pause` and `tokio::time::advance` move those, and the time
/// of sessions with them; both can be used together.
///
/// It does not move the clocks of other processes: a Redis server counts the time of its sessions
/// itself. Replicated nodes in the runtime take a leap for a pause of their machine: they lose
/// nothing that has not expired, and may answer with 503 until they have rejoined.
#[derive(Clone)]
#[must_use]
pub struct TestClock(Shift);

impl TestClock {
    /// The clock of the current runtime. All of one runtime are the same. When the last of them is
    /// dropped, the time is the real one again: keep it until the end of the test.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new() -> Self {
        Self(Shift::of_runtime().expect("a test's clock belongs to a tokio runtime"))
    }

    /// Moves the time of sessions ahead.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::clock::now;
    use crate::testing::TestSession;
    use crate::{MemoryStore, SessionStore};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_task_of_the_runtime_sees_it_and_no_other_runtime_does() {
        let before = now();
        let clock = TestClock::new();
        TestClock::new().advance(8 * HOUR);
        let here = now().since(before);
        let task = tokio::spawn(async { now() }).await.unwrap();
        let blocking = tokio::task::spawn_blocking(now).await.unwrap();
        let elsewhere = std::thread::spawn(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            (now(), runtime.block_on(async { now() }))
        });
        let (outside, other) = elsewhere.join().unwrap();
        for ahead in [here, task.since(before), blocking.since(before)] {
            assert!(ahead >= 8 * HOUR, "{ahead:?}");
        }
        for real in [outside, other] {
            assert!(real.since(before) < HOUR);
        }
        drop(clock);
        assert!(now().since(before) < HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_with_a_paused_clock() {
        let (clock, before) = (TestClock::new(), now());
        tokio::time::advance(HOUR).await;
        clock.advance(HOUR);
        assert_eq!(now().since(before), 2 * HOUR);
    }

    #[tokio::test]
    async fn sessions_expire_and_are_swept() {
        let store = MemoryStore::new();
        let clock = TestClock::new();
        let session = TestSession::new().with_idle_timeout(Some(HOUR));
        let id = session.create(&store).await.unwrap();
        clock.advance(HOUR / 2);
        assert!(store.peek(&id.key()).await.unwrap().is_some());
        clock.advance(HOUR);
        assert!(store.peek(&id.key()).await.unwrap().is_none());
        while store.status().sessions > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    #[should_panic(expected = "belongs to a tokio runtime")]
    fn there_is_none_without_a_runtime() {
        let _clock = TestClock::new();
    }
}
