use std::time::Duration;

use axum::Router;
use axum::routing::get;
use distributable::session::Changes;
use distributable::testing::{TestSession, conformance};
use distributable::{Session, SessionLayer, SessionStore};
use tokio::time::{Instant, sleep};

use crate::scratch::Scratch;
use crate::support::Browser;

#[path = "../../src/docs/recipes/sql_store.rs"]
mod recipe;

use recipe::SqlStore;

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_store_as_those_of_this_crate_are() {
    let folder = Scratch::in_memory();
    let [one, other] = [(); 2].map(|()| SqlStore::open(&folder.path().join("sessions")).unwrap());
    conformance(one, other).await;
}

#[tokio::test]
async fn sessions_survive_a_restart_and_the_list_of_a_user_is_there() {
    let folder = Scratch::new();
    let file = folder.path().join("sessions");
    let node = |store: SqlStore| -> Router {
        let count = async |session: Session| {
            let count = session
                .update("n", |n: Option<u32>| n.unwrap_or(0) + 1)
                .await?;
            session.log_in("ada")?;
            Ok::<_, distributable::SessionError>(count.to_string())
        };
        Router::new()
            .route("/", get(count))
            .layer(SessionLayer::new(store))
    };
    let mut browser = Browser::default();
    for expected in ["1", "2"] {
        let app = node(SqlStore::open(&file).unwrap());
        assert_eq!(browser.get(&app, "/").await.1, expected);
    }
    let store = SqlStore::open(&file).unwrap();
    assert_eq!(store.sessions_of("ada").await.unwrap().len(), 1);
    assert_eq!(store.end_user("ada").await.unwrap(), 1);
    assert_eq!(browser.get(&node(store), "/").await.1, "1");
}

#[tokio::test]
async fn expired_rows_are_swept_and_no_others() {
    let folder = Scratch::new();
    let store = SqlStore::open(&folder.path().join("sessions")).unwrap();
    let short = TestSession::new().with_absolute_timeout(Duration::from_millis(50));
    let short = short.create(&store).await.unwrap().key();
    let kept = TestSession::new().create(&store).await.unwrap().key();
    let endless = TestSession::new()
        .with_idle_timeout(None)
        .with_absolute_timeout(Duration::MAX);
    let endless = endless.create(&store).await.unwrap().key();
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.sweep().unwrap() == 0 {
        assert!(Instant::now() < deadline, "nothing is swept");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(store.peek(&short).await.unwrap().is_none());
    for key in [kept, endless] {
        assert!(store.peek(&key).await.unwrap().is_some());
    }
    assert_eq!(store.sweep().unwrap(), 0);
    let outcome = store
        .commit(&short, None, Changes::default())
        .await
        .unwrap();
    assert_eq!(outcome, distributable::session::Outcome::Gone);
}
