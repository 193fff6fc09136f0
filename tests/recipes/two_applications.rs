use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::SET_COOKIE;
use axum::routing::get;
use distributable::testing::CookieJar;
use distributable::{MemoryStore, Session};
use tower::ServiceExt;

#[path = "../../src/docs/recipes/two_applications.rs"]
mod recipe;

fn counter() -> Router {
    let count = async |session: Session| {
        let count = session
            .update("n", |n: Option<u32>| n.unwrap_or(0) + 1)
            .await;
        count.map(|count| count.to_string())
    };
    Router::new().route("/count", get(count))
}

#[tokio::test]
async fn each_application_has_its_own_session_and_cookie() {
    let shop = recipe::shop(counter(), MemoryStore::new()).unwrap();
    let blog = recipe::blog(counter(), MemoryStore::new()).unwrap();
    let host = shop.merge(blog);
    let mut jar = CookieJar::new();
    for (path, expected, attributes) in [
        ("/shop/count", "1", "Path=/shop"),
        ("/count", "1", "Path=/;"),
        ("/shop/count", "2", ""),
        ("/count", "2", ""),
        ("/shop/count", "3", ""),
    ] {
        let request = jar.attach(Request::get(path).body(Body::empty()).unwrap());
        let response = host.clone().oneshot(request).await.unwrap();
        jar.keep(&response);
        let cookie = response.headers().get(SET_COOKIE).cloned();
        let cookie = cookie.map_or_else(String::new, |line| line.to_str().unwrap().to_owned());
        assert!((cookie + ";").contains(attributes));
        let body = to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, expected, "{path}");
    }
    assert!(jar.get("SHOP_SESSION").is_some() && jar.get("BLOG_SESSION").is_some());
}
