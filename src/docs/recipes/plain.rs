use std::convert::Infallible;

use distributable::{Session, SessionError, SessionLayer, SessionStore};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

/// A server of hyper and tower, without axum.
pub async fn serve(listener: TcpListener, store: impl SessionStore) -> std::io::Result<()> {
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(store))
        .service(service_fn(answer));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(
                    cause = &error as &dyn std::error::Error,
                    "a connection failed"
                );
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (head, _body) = request.into_parts();
    Ok(match count(&head).await {
        Ok(count) => Response::new(format!("visit {count}")),
        Err(error) => {
            let mut response = Response::new(error.to_string());
            *response.status_mut() = error.status();
            response
        }
    })
}

async fn count(head: &http::request::Parts) -> Result<u32, SessionError> {
    let session = Session::from_parts(head).await?;
    session
        .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
        .await
}
