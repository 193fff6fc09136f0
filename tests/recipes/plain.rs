use distributable::MemoryStore;
use distributable::testing::CookieJar;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

#[path = "../../src/docs/recipes/plain.rs"]
mod recipe;

#[tokio::test]
async fn a_server_without_axum_counts_the_visits_of_each_visitor() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(recipe::serve(listener, MemoryStore::new()));
    let mut jar = CookieJar::new();
    for expected in ["visit 1", "visit 2", "visit 1"] {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "shop.example");
        let request = jar.attach(request.body(Empty::<Bytes>::new()).unwrap());
        let response = sender.send_request(request).await.unwrap();
        jar.keep(&response);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected);
        if expected == "visit 2" {
            jar.clear();
        }
    }
}
