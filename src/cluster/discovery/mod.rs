//! Discovery: addresses to dial, found by name or by multicast.
//!
//! Every address found here is only a candidate. It is dialed, and the node that answers has to
//! authenticate like any other. So neither a name server nor a forged datagram can do more than
//! cause a bounded number of addresses to be dialed.

mod beacon;
mod dns;
mod multicast;

use std::sync::Arc;

use crate::cluster::driver::Driver;

pub(super) use beacon::Beacon;
pub use multicast::Multicast;
pub(super) use multicast::{JoinedGroup, join};

/// The sources of addresses.
#[derive(Debug)]
pub(super) struct Discovery {
    /// Names as `host:port`, resolved repeatedly.
    pub(super) names: Arc<[String]>,
    pub(super) multicast: Option<JoinedGroup>,
}

/// Discovers addresses for as long as the node runs, and has them dialed.
pub(super) async fn discover(driver: Arc<Driver>, discovery: Discovery) {
    let names = dns::watch_names(driver.clone(), discovery.names);
    let multicast = async {
        if let Some(group) = discovery.multicast {
            multicast::run(&driver, group).await;
        }
    };
    tokio::join!(names, multicast, dns::dial_former(&driver));
}
