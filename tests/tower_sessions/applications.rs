//! The application on three nodes of one process.

use axum::http::StatusCode;

use crate::application::application;
use crate::support::{Browser, cluster};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_survives_the_node_that_has_served_it_and_a_logout_holds() {
    let [one, two, three] = cluster(["one", "two", "three"]).await;
    let a = application("one", &one);
    let b = application("two", &two);
    let c = application("three", &three);
    let mut browser = Browser::default();

    let (status, _) = browser.get(&a, "/").await;
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    let (status, _) = browser.post(&a, "/login", "name=ada&password=wrong").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    // The message was written through one node, is shown by another, and once.
    let shown = browser.get(&b, "/login").await.1;
    assert_eq!(shown, "login: wrong name or password");
    assert_eq!(browser.get(&c, "/login").await.1, "login: ");

    let before = browser.cookie.clone();
    browser.post(&a, "/login", "name=ada&password=engine").await;
    assert_ne!(browser.cookie, before);
    let mut planted = Browser { cookie: before };
    let (status, _) = planted.get(&b, "/").await;
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(browser.get(&a, "/count").await.1, "one 1");

    // The node that has served all of it ends without an announcement.
    drop((a, one));
    assert_eq!(browser.get(&b, "/").await.1, "ada: welcome, ada");
    assert_eq!(browser.get(&c, "/count").await.1, "three 2");
    assert_eq!(browser.get(&b, "/count").await.1, "two 3");

    let mut thief = Browser {
        cookie: browser.cookie.clone(),
    };
    let (status, _) = browser.post(&b, "/logout", "").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    for node in [&b, &c] {
        for who in [&mut browser, &mut thief] {
            let (status, _) = who.get(node, "/").await;
            assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
        }
    }
}
