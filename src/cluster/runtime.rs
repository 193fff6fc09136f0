//! Tasks of a running node: its clock, its listener, its links and its search for other nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cluster::discovery::{Discovery, discover};
use crate::cluster::driver::Driver;
use crate::cluster::transport::{Handshaking, SendQueue, dial, serve_connection};

/// The listener and the sources of addresses of a node.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) listener: TcpListener,
    pub(super) discovery: Discovery,
    pub(super) dial_requests: mpsc::UnboundedReceiver<Arc<SendQueue>>,
}

/// Runs a node until `stop` changes or the future is dropped. All its tasks and connections end
/// with it.
pub(super) async fn run(
    driver: Arc<Driver>,
    endpoints: Endpoints,
    mut stop: watch::Receiver<bool>,
) {
    let Endpoints {
        listener,
        discovery,
        mut dial_requests,
    } = endpoints;
    let _close = CloseOnDrop(&driver);
    let mut tasks = JoinSet::new();
    let mut handshaking = Handshaking::default();
    tasks.spawn(discover(driver.clone(), discovery));
    loop {
        let pause = driver.tick();
        tokio::select! {
            () = sleep(pause) => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let evicted = handshaking.admit(remote.ip());
                    tasks.spawn(serve_connection(driver.clone(), stream, remote, evicted));
                }
                // Usually too many open files, which an immediate retry does not solve.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(send_queue) = dial_requests.recv() => {
                tasks.spawn(dial(driver.clone(), send_queue));
            }
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(cause = %error, "a replication task has failed");
            },
            _ = stop.changed() => return,
        }
    }
}

/// Ends a node, however `run` ends.
struct CloseOnDrop<'a>(&'a Driver);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
