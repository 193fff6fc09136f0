use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::COOKIE;
use axum::routing::{get, post};
use distributable::{ReplicatedStore, Session, SessionLayer};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Browser, cluster};

#[path = "../../src/docs/recipes/websocket.rs"]
mod recipe;

fn node(store: &ReplicatedStore) -> Router {
    let log_in = async |session: Session| session.log_in("ada");
    let log_out = async |session: Session| session.log_out().await.map(|_| ());
    Router::new()
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/chat", get(recipe::chat))
        .layer(SessionLayer::new(store.clone()))
}

async fn connect(
    node: &Router,
    cookie: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = node.clone();
    tokio::spawn(async move { axum::serve(listener, node).await });
    let mut request = format!("ws://{address}/chat").into_client_request()?;
    if let Some(cookie) = cookie {
        request
            .headers_mut()
            .insert(COOKIE, cookie.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(client_async(request, stream).await?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_answers_until_a_logout_on_another_node_and_says_why_it_ends() {
    let [one, two] = cluster(["one", "two"]).await;
    let [one, two] = [node(&one), node(&two)];
    let refused = connect(&one, None).await;
    let Err(tungstenite::Error::Http(response)) = refused else {
        panic!("a visitor chats");
    };
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);

    let mut browser = Browser::default();
    browser.post(&one, "/login", "").await;
    let mut socket = connect(&one, browser.cookie.as_deref()).await.unwrap();
    for text in ["hello", "again"] {
        socket.send(Message::text(text)).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer, Message::text(format!("you said {text}")));
    }
    let quiet = timeout(Duration::from_millis(1500), socket.next()).await;
    assert!(quiet.is_err(), "nothing comes without a reason: {quiet:?}");

    browser.post(&two, "/logout", "").await;
    let last = timeout(PATIENCE, socket.next()).await.expect("it ends");
    let Some(Ok(Message::Close(Some(close)))) = last else {
        panic!("{last:?}");
    };
    assert_eq!(close.code, CloseCode::Policy);
    assert_eq!(close.reason.as_str(), "the session has ended");
}

const PATIENCE: Duration = Duration::from_secs(30);
