//! Ports and names of nodes on one machine.

use std::error::Error;
use std::io::ErrorKind;
use std::ops::RangeInclusive;

use tokio::net::TcpListener;

/// Listens on the given address, or on the first free port.
pub(crate) async fn listen(address: Option<&str>) -> Result<TcpListener, Box<dyn Error>> {
    if let Some(address) = address {
        return Ok(TcpListener::bind(address).await?);
    }
    for port in PORTS {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
    }
    Err("every port from 8080 to 8099 is taken: give one with --listen".into())
}

/// Returns the name of the node that serves on this port.
pub(crate) fn node_name(port: u16) -> String {
    if PORTS.contains(&port) {
        format!("node{}", port - PORTS.start() + 1)
    } else {
        format!("node{port}")
    }
}

const PORTS: RangeInclusive<u16> = 8080..=8099;
