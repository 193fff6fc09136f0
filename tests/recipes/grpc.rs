use distributable::testing::FailingStore;
use distributable::{MemoryStore, StoreErrorKind};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use crate::shop::cart_client::CartClient;

#[path = "../../src/docs/recipes/grpc.rs"]
mod recipe;

#[tokio::test]
async fn calls_of_one_client_share_a_session_by_the_id_in_their_metadata() {
    let store = FailingStore::new(MemoryStore::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = store.clone();
    tokio::spawn(async move { recipe::serve(listener, served).await.unwrap() });
    let channel = Endpoint::new(address).unwrap().connect().await.unwrap();
    let mut client = CartClient::new(channel);

    let first = client.add("tea".to_owned()).await.unwrap();
    let id = first.metadata().get("x-session-id").unwrap().clone();
    assert_eq!(first.into_inner(), 1);
    let call = || {
        let mut call = Request::new("milk".to_owned());
        call.metadata_mut().insert("x-session-id", id.clone());
        call
    };
    let second = client.add(call()).await.unwrap();
    assert!(!second.metadata().contains_key("x-session-id"));
    assert_eq!(second.into_inner(), 2);
    assert_eq!(client.add("tea".to_owned()).await.unwrap().into_inner(), 1);

    store.fail(StoreErrorKind::Unavailable);
    assert_eq!(
        client.add(call()).await.unwrap_err().code(),
        Code::Unavailable
    );
    store.repair();
    store.fail_writes(StoreErrorKind::Unavailable);
    assert_eq!(
        client.add(call()).await.unwrap_err().code(),
        Code::Unavailable
    );
    store.repair();
    assert_eq!(client.add(call()).await.unwrap().into_inner(), 3);
}
