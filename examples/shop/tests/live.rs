//! Events and the chat.

use axum::Router;
use axum::http::Method;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::visitor::{PATIENCE, Visitor, shop};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[tokio::test]
async fn open_pages_follow_the_cart_and_learn_of_the_logout() {
    let shop = shop();
    let mut ann = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    let mut page = ann.events(&shop).await;
    page.expect("cart", "0").await;
    ann.submit(&shop, "/cart", "tea=assam").await;
    page.expect("cart", "1").await;
    ann.submit(&shop, "/logout", "").await;
    page.expect("end", "0").await;
    assert_eq!(page.next().await, None);
}

#[tokio::test]
async fn log_out_everywhere_else_ends_the_events_of_other_browsers_only() {
    let shop = shop();
    let mut phone = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    let mut laptop = Visitor::logged_in(&shop, "Safari", "ann", "apple").await;
    let [mut of_phone, mut of_laptop] = [phone.events(&shop).await, laptop.events(&shop).await];
    of_phone.expect("cart", "0").await;
    of_laptop.expect("cart", "0").await;
    laptop.submit(&shop, "/account/others", "").await;
    of_phone.expect("end", "0").await;
    assert_eq!(of_phone.next().await, None);
    laptop.submit(&shop, "/cart", "tea=mint").await;
    of_laptop.expect("cart", "1").await;
    // A page that was asleep meanwhile receives it as soon as it connects.
    let mut late = phone.events(&shop).await;
    late.expect("cart", "0").await;
    late.expect("end", "0").await;
}

#[tokio::test]
async fn a_login_lets_open_pages_connect_again_instead_of_ending_them() {
    let shop = shop();
    let mut ann = Visitor::new("Firefox");
    ann.token(&shop).await;
    let mut page = ann.events(&shop).await;
    page.expect("cart", "0").await;
    ann.submit(&shop, "/login", "name=ann&password=apple").await;
    assert_eq!(page.next().await, None);
    let mut again = ann.events(&shop).await;
    again.expect("cart", "0").await;
}

#[tokio::test]
async fn the_chat_answers_is_kept_in_the_session_and_ends_with_it() {
    let shop = shop();
    let mut phone = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    let mut laptop = Visitor::logged_in(&shop, "Safari", "ann", "apple").await;
    let address = serve(shop.clone()).await;
    let mut chat = open(&address, &address, &phone).await.unwrap();
    assert_eq!(next(&mut chat).await.unwrap(), "");
    chat.send(Message::text("Hello")).await.unwrap();
    let lines = "You: Hello\nShop: Noted, thank you!";
    assert_eq!(next(&mut chat).await.unwrap(), lines);
    // Another tab.
    let mut other = open(&address, &address, &phone).await.unwrap();
    assert_eq!(next(&mut other).await.unwrap(), lines);
    other.send(Message::text("Bye")).await.unwrap();
    assert!(next(&mut other).await.unwrap().contains("Bye"));
    assert!(next(&mut chat).await.unwrap().contains("Bye"));
    laptop.submit(&shop, "/account/others", "").await;
    assert_eq!(
        [next(&mut chat).await, next(&mut other).await],
        [None, None]
    );
    assert!(
        phone
            .page(&shop, "/account")
            .await
            .contains("Log in first.")
    );
}

#[tokio::test]
async fn the_chat_is_for_pages_of_the_shop_and_users_who_are_logged_in() {
    let shop = shop();
    let ann = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    let mut visitor = Visitor::new("Firefox");
    visitor.token(&shop).await;
    let address = serve(shop.clone()).await;
    for (origin, visitor) in [("evil.example", &ann), ("", &ann), (&*address, &visitor)] {
        let Err(Error::Http(response)) = open(&address, origin, visitor).await else {
            panic!("{origin} is admitted");
        };
        assert_eq!(response.status(), 403);
    }
    // Long messages end it, and the number of lines is limited.
    let mut chat = open(&address, &address, &ann).await.unwrap();
    next(&mut chat).await.unwrap();
    for _ in 0..15 {
        chat.send(Message::text("Hello")).await.unwrap();
        assert!(next(&mut chat).await.unwrap().lines().count() <= 20);
    }
    chat.send(Message::text("x".repeat(501))).await.unwrap();
    assert_eq!(next(&mut chat).await, None);
}

#[tokio::test]
async fn events_without_a_session_end_at_once() {
    let shop = shop();
    let mut stranger = Visitor::new("curl");
    let response = stranger.send(&shop, Method::GET, "/events", "").await;
    assert!(response.headers().get("set-cookie").is_none());
    let mut page = stranger.events(&shop).await;
    page.expect("cart", "0").await;
    page.expect("end", "0").await;
    assert_eq!(page.next().await, None);
}

async fn serve(shop: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(axum::serve(listener, shop).into_future());
    address
}

async fn open(address: &str, origin: &str, visitor: &Visitor) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}/chat").into_client_request()?;
    let origin = format!("http://{origin}").parse().unwrap();
    request.headers_mut().insert("origin", origin);
    let connected = timeout(PATIENCE, connect_async(visitor.jar.attach(request)));
    connected
        .await
        .expect("an answer")
        .map(|(socket, _)| socket)
}

/// The next text; `None` when the socket is closed.
async fn next(chat: &mut Socket) -> Option<String> {
    match timeout(PATIENCE, chat.next()).await.expect("a message") {
        Some(Ok(Message::Text(text))) => Some(text.to_string()),
        _ => None,
    }
}
