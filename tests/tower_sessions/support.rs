//! Nodes in one process, and a browser without a network.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use distributable::ReplicatedStore;
use distributable::store::{MemberState, ReplicatedStoreBuilder};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nodes that serve, and are connected to each other.
pub(crate) async fn cluster<const N: usize>(names: [&str; N]) -> [ReplicatedStore; N] {
    let mut nodes: Vec<ReplicatedStore> = Vec::new();
    for name in names {
        let peers = nodes.iter().map(ReplicatedStore::local_addr);
        let peers = peers.map(|address: SocketAddr| address.to_string());
        let node = ReplicatedStore::builder(name).bind("127.0.0.1:0");
        let node = peers.fold(node, ReplicatedStoreBuilder::peer);
        nodes.push(node.start().await.unwrap());
    }
    let deadline = Instant::now() + PATIENCE;
    for node in &nodes {
        let settled = || {
            let status = node.status();
            let is_ready = |state| state == MemberState::Ready;
            status.complete
                && status.members.len() == N
                && status.members.iter().all(|member| is_ready(member.state))
        };
        while !settled() {
            assert!(
                Instant::now() < deadline,
                "the nodes do not find each other"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
    nodes.try_into().unwrap()
}

/// A browser with at most one cookie, which goes with every request to any node.
#[derive(Default)]
pub(crate) struct Browser {
    pub(crate) cookie: Option<String>,
}

impl Browser {
    pub(crate) async fn get(&mut self, node: &Router, path: &str) -> (StatusCode, String) {
        self.send(node, Method::GET, path, "").await
    }

    pub(crate) async fn post(
        &mut self,
        node: &Router,
        path: &str,
        form: &str,
    ) -> (StatusCode, String) {
        self.send(node, Method::POST, path, form).await
    }

    async fn send(
        &mut self,
        node: &Router,
        method: Method,
        path: &str,
        form: &str,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = node.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
