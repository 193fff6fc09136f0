//! A server with a limit for the requests that are open when it is asked to end.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Serves until the end is requested; requests in progress may finish.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    end_wanted: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // Nothing is ever sent: dropping the sender is the signal.
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    end_wanted.await;
    drop(stop);
    if let Ok(served) = timeout(LAST_REQUESTS_MAX, &mut server).await {
        served??;
    }
    Ok(())
}

/// How long browsers may keep their connections after this node was asked to end.
const LAST_REQUESTS_MAX: Duration = Duration::from_secs(5);
