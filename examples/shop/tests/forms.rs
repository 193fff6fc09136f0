//! Forms, flash messages, login and roles.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use distributable::MemoryStore;
use distributable::testing::TestSession;
use tower::ServiceExt;

use crate::visitor::{Visitor, node, shop, text};

const POSTS: [&str; 5] = ["/cart", "/order", "/login", "/logout", "/account/others"];

#[tokio::test]
async fn a_form_without_the_token_of_its_session_is_refused_and_changes_nothing() {
    let shop = shop();
    let mut ann = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    ann.submit(&shop, "/cart", "tea=assam").await;
    let foreign = Visitor::new("Firefox").token(&shop).await;
    let rest = "tea=assam&name=bob&password=banana";
    for path in POSTS {
        for form in [
            rest,
            &format!("token=&{rest}"),
            &format!("token={foreign}&{rest}"),
        ] {
            let response = ann.send(&shop, Method::POST, path, form).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path} {form}");
        }
    }
    let page = ann.page(&shop, "/").await;
    assert!(
        page.contains("1 × Assam") && page.contains("Ann’s devices"),
        "{page}"
    );
    let mut stranger = Visitor::new("curl");
    for path in POSTS {
        let response = stranger.send(&shop, Method::POST, path, rest).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_login_makes_the_tokens_of_former_pages_worthless() {
    let shop = shop();
    let mut ann = Visitor::new("Firefox");
    let planted = ann.token(&shop).await;
    ann.submit(&shop, "/login", "name=ann&password=apple").await;
    let form = format!("token={planted}&tea=assam");
    let response = ann.send(&shop, Method::POST, "/cart", &form).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_flash_message_is_shown_once() {
    let shop = shop();
    let mut visitor = Visitor::new("Firefox");
    let page = visitor.submit(&shop, "/cart", "tea=sencha").await;
    assert!(page.contains("Your cart has changed."), "{page}");
    let page = visitor.page(&shop, "/").await;
    assert!(!page.contains("Your cart has changed."), "{page}");
}

#[tokio::test]
async fn wrong_names_and_wrong_passwords_get_the_same_answer() {
    let shop = shop();
    let mut pages = Vec::new();
    for form in [
        "name=ann&password=banana",
        "name=nemo&password=apple",
        "name=&password=",
    ] {
        let mut visitor = Visitor::new("Firefox");
        let page = visitor.submit(&shop, "/login", form).await;
        let token = visitor.token(&shop).await;
        assert!(page.contains("The name or the password is wrong."));
        assert!(
            visitor
                .page(&shop, "/account")
                .await
                .contains("Log in first.")
        );
        pages.push(page.replace(&token, ""));
    }
    assert!(pages.iter().all(|page| *page == pages[0]));
}

#[tokio::test]
async fn a_login_keeps_the_cart_under_a_new_id_and_a_logout_leaves_nothing() {
    let shop = shop();
    let mut ann = Visitor::new("Firefox");
    ann.submit(&shop, "/cart", "tea=mint").await;
    let before = ann.jar.clone();
    ann.submit(&shop, "/login", "name=ann&password=apple").await;
    assert_eq!(ann.cart(&shop).await, "1");
    assert_ne!(ann.jar.get("JSESSIONID"), before.get("JSESSIONID"));
    // A request with the former id gets nothing of the session.
    let mut former = Visitor::new("Firefox");
    former.jar = before;
    let (status, page) = former.get(&shop, "/").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(!page.contains("mint"), "{page}");
    let page = ann.submit(&shop, "/logout", "").await;
    assert!(
        page.contains("You are logged out.") && page.contains("It is empty."),
        "{page}"
    );
}

#[tokio::test]
async fn only_administrators_see_their_page() {
    let store = MemoryStore::new();
    let shop = node("node1", store.clone());
    for (role, expected) in [
        (Some("admin"), StatusCode::OK),
        (Some("customer"), StatusCode::FORBIDDEN),
        (None, StatusCode::FORBIDDEN),
    ] {
        let session = role.into_iter().fold(TestSession::new(), |session, role| {
            session.with("role", role)
        });
        let request = Request::get("/admin").body(Body::empty()).unwrap();
        let request = session.request(&store, request).await.unwrap();
        let response = shop.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected, "{role:?}");
        assert_eq!(
            text(response).await.contains("<h1>Users"),
            expected == StatusCode::OK
        );
    }
    // As the users in the file have it.
    let mut eve = Visitor::logged_in(&shop, "Firefox", "eve", "cherry").await;
    assert!(eve.page(&shop, "/").await.contains("href=\"/admin\""));
    assert!(eve.page(&shop, "/admin").await.contains("1 device"));
    let mut ann = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    assert!(!ann.page(&shop, "/").await.contains("href=\"/admin\""));
    assert_eq!(ann.get(&shop, "/admin").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn devices_are_listed_and_all_others_are_logged_out() {
    let shop = shop();
    let mut phone = Visitor::logged_in(
        &shop,
        "Mozilla/5.0 (Android 16) Firefox/140",
        "ann",
        "apple",
    )
    .await;
    let mut laptop =
        Visitor::logged_in(&shop, "Mozilla/5.0 (Macintosh) Safari/600", "ann", "apple").await;
    let mut bob = Visitor::logged_in(&shop, "curl/8", "bob", "banana").await;
    let page = laptop.page(&shop, "/account").await;
    assert_eq!(page.matches(">this device<").count(), 1);
    assert_eq!(
        [phone.devices(&shop).await, bob.devices(&shop).await],
        [2, 1]
    );
    let page = laptop.submit(&shop, "/account/others", "").await;
    assert!(page.contains("All other devices are logged out."), "{page}");
    assert!(
        phone
            .page(&shop, "/account")
            .await
            .contains("Log in first.")
    );
    assert_eq!(
        [laptop.devices(&shop).await, bob.devices(&shop).await],
        [1, 1]
    );
}

#[tokio::test]
async fn what_browsers_send_is_escaped_and_bounded() {
    let shop = shop();
    Visitor::logged_in(&shop, "Firefox \u{fc}", "ann", "apple").await;
    let long = format!("<script>Firefox</script> {}", "x".repeat(300));
    let mut odd = Visitor::logged_in(&shop, &long, "ann", "apple").await;
    let page = odd.page(&shop, "/account").await;
    assert!(
        page.contains("Firefox") && page.contains("Unknown browser"),
        "{page}"
    );
    assert!(!page.contains("<script>Firefox"), "{page}");
    for _ in 0..35 {
        odd.submit(&shop, "/cart", "tea=rooibos").await;
    }
    odd.submit(&shop, "/cart", "tea=coffee").await;
    assert_eq!(odd.cart(&shop).await, "30");
    let large = format!(
        "token={}&tea={}",
        odd.token(&shop).await,
        "x".repeat(20_000)
    );
    let response = odd.send(&shop, Method::POST, "/cart", &large).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
