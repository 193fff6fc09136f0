//! A browser that sends its requests to routers in this process.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, USER_AGENT};
use axum::http::{Method, Request, Response, StatusCode};
use distributable::testing::CookieJar;
use distributable::{MemoryStore, Route, SessionStore};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;

/// Its cookies go with every request, to any node.
pub(crate) struct Visitor {
    pub(crate) jar: CookieJar,
    agent: String,
}

/// The shop with sessions in memory.
pub(crate) fn shop() -> Router {
    node("node1", MemoryStore::new())
}

pub(crate) fn node<S: SessionStore + Clone>(name: &str, store: S) -> Router {
    shop::app(store, Route::new(name).unwrap())
}

impl Visitor {
    pub(crate) fn new(agent: &str) -> Self {
        let (jar, agent) = (CookieJar::new(), agent.to_owned());
        Self { jar, agent }
    }

    /// A visitor who has logged in.
    pub(crate) async fn logged_in(shop: &Router, agent: &str, name: &str, password: &str) -> Self {
        let mut visitor = Self::new(agent);
        let form = format!("name={name}&password={password}");
        let page = visitor.submit(shop, "/login", &form).await;
        assert!(page.contains("You are logged in."), "{page}");
        visitor
    }

    pub(crate) async fn send(
        &mut self,
        shop: &Router,
        method: Method,
        path: &str,
        form: &str,
    ) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(USER_AGENT, &self.agent)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap();
        let sent = shop.clone().oneshot(self.jar.attach(request)).await;
        let response = sent.unwrap();
        self.jar.keep(&response);
        response
    }

    pub(crate) async fn get(&mut self, shop: &Router, path: &str) -> (StatusCode, String) {
        let response = self.send(shop, Method::GET, path, "").await;
        (response.status(), text(response).await)
    }

    /// The page, which must be there or lead to one.
    pub(crate) async fn page(&mut self, shop: &Router, path: &str) -> String {
        let response = self.send(shop, Method::GET, path, "").await;
        self.follow(shop, response).await
    }

    async fn follow(&mut self, shop: &Router, mut response: Response<Body>) -> String {
        if response.status() == StatusCode::SEE_OTHER {
            let next = response.headers()[LOCATION].to_str().unwrap().to_owned();
            response = self.send(shop, Method::GET, &next, "").await;
        }
        assert_eq!(response.status(), StatusCode::OK);
        text(response).await
    }

    /// Sends a form of a page of the shop. Returns the page after it.
    pub(crate) async fn submit(&mut self, shop: &Router, path: &str, form: &str) -> String {
        let token = self.token(shop).await;
        let form = format!("token={token}&{form}");
        let response = self.send(shop, Method::POST, path, &form).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        self.follow(shop, response).await
    }

    /// The token in the forms of this session.
    pub(crate) async fn token(&mut self, shop: &Router) -> String {
        token_in(&self.page(shop, "/").await)
    }

    /// The number in the cart's badge.
    pub(crate) async fn cart(&mut self, shop: &Router) -> String {
        let page = self.page(shop, "/").await;
        let (_, count) = page.split_once("id=\"count\">").unwrap();
        count.split_once('<').unwrap().0.to_owned()
    }

    /// The lines of "my devices".
    pub(crate) async fn devices(&mut self, shop: &Router) -> usize {
        let page = self.page(shop, "/account").await;
        page.matches("last used").count()
    }

    /// Opens the stream of events.
    pub(crate) async fn events(&mut self, shop: &Router) -> Events {
        let response = self.send(shop, Method::GET, "/events", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Events(response.into_body())
    }
}

pub(crate) fn token_in(page: &str) -> String {
    let (_, token) = page.split_once("name=\"token\" value=\"").unwrap();
    token.split_once('"').unwrap().0.to_owned()
}

/// The events of an open page.
pub(crate) struct Events(Body);

impl Events {
    /// The next event and its data; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, String)> {
        timeout(PATIENCE, self.wait()).await.expect("an event")
    }

    async fn wait(&mut self) -> Option<(String, String)> {
        loop {
            let bytes = self.0.frame().await?.unwrap().into_data().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            // Comments keep the connection open.
            if let (Some(event), Some(data)) = (field("event: "), field("data: ")) {
                return Some((event.to_owned(), data.to_owned()));
            }
        }
    }

    /// Checks the next event.
    pub(crate) async fn expect(&mut self, event: &str, data: &str) {
        let expected = (event.to_owned(), data.to_owned());
        assert_eq!(self.next().await, Some(expected));
    }
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
