use std::error::Error;

use distributable::{
    Session, SessionError, SessionErrorKind, SessionHeader, SessionLayer, SessionStore,
};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tower::util::MapResponseLayer;

use crate::shop::cart_server::{Cart, CartServer};

pub struct Carts;

#[tonic::async_trait]
impl Cart for Carts {
    /// Adds to the cart, and returns how much is in it.
    async fn add(&self, call: Request<String>) -> Result<Response<u32>, Status> {
        let count = add(call).await.map_err(|error| status(&error))?;
        Ok(Response::new(count))
    }
}

async fn add(call: Request<String>) -> Result<u32, SessionError> {
    // tonic has taken the request apart: the session is found by its headers and extensions.
    let (metadata, extensions, item) = call.into_parts();
    let mut head = http::Request::new(()).into_parts().0;
    head.headers = metadata.into_headers();
    head.extensions = extensions;
    let session = Session::from_parts(&head).await?;
    let mut items: Vec<String> = session.get("items")?.unwrap_or_default();
    items.push(item);
    session.insert("items", &items)?;
    Ok(items.len() as u32)
}

fn status(error: &SessionError) -> Status {
    match error.kind() {
        SessionErrorKind::Store(_) => Status::unavailable(error.to_string()),
        SessionErrorKind::Invalidated | SessionErrorKind::Superseded => {
            Status::unauthenticated(error.to_string())
        }
        _ => Status::internal(error.to_string()),
    }
}

/// An error of the layer itself, such as that of a commit, as a gRPC client expects it.
fn as_status<B: Default>(response: http::Response<B>) -> http::Response<B> {
    let Some(error) = response.extensions().get::<SessionError>() else {
        return response;
    };
    let mut answer = status(error).into_http();
    if let Some(id) = response.headers().get(SESSION_ID) {
        answer.headers_mut().insert(SESSION_ID, id.clone());
    }
    answer
}

pub async fn serve(listener: TcpListener, store: impl SessionStore) -> Result<(), Box<dyn Error>> {
    // gRPC clients keep no cookies: the id is in the metadata of calls and of their answers.
    let sessions = SessionLayer::new(store).with_header(SessionHeader::new(SESSION_ID)?);
    Server::builder()
        .layer(MapResponseLayer::new(as_status))
        .layer(sessions)
        .add_service(CartServer::new(Carts))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}

const SESSION_ID: &str = "x-session-id";
