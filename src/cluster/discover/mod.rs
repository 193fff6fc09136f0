//! Where other nodes may be: addresses to dial, found by name or by multicast.
//!
//! Whatever is found here is a candidate and nothing else. Somebody dials it, and who answers has to
//! prove that it belongs to the cluster, as everybody has. So neither a name server nor a forged
//! datagram can do more than have a bounded number of addresses dialled.

mod beacon;
mod multicast;
mod names;

use std::sync::Arc;

use super::driver::Driver;

pub(super) use beacon::Beacon;
pub use multicast::Multicast;
pub(super) use multicast::{Group, join};
pub(super) use names::resolve;

/// Where a node looks for others.
#[derive(Debug)]
pub(super) struct Discovery {
    /// `host:port`, looked up again and again.
    pub(super) names: Arc<[String]>,
    pub(super) multicast: Option<Group>,
}

/// Looks for other nodes, for ever, and has them dialled.
pub(super) async fn discover(driver: Arc<Driver>, discovery: Discovery) {
    let names = names::seek(driver.clone(), discovery.names);
    let multicast = async {
        if let Some(group) = discovery.multicast {
            multicast::meet(&driver, group).await;
        }
    };
    tokio::join!(names, multicast, names::seek_former(&driver));
}
