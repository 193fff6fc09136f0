//! Free ports.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Returns an address outside the range from which the system takes the ports of outgoing
/// connections, so that a node which restarts finds its port free. Every call returns another one,
/// in all processes of the lab.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as usize * PORTS_PER_PROCESS;
    loop {
        let offset = start + usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (offset % PORTS.len()) as u16;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if reserve(address) && TcpStream::connect(address).is_err() {
            return address;
        }
    }
}

/// Reserves a port for this process until it ends. Until the program that was given the port
/// listens, TCP itself does not show that it is taken; its UDP port, which no program uses, does.
fn reserve(address: SocketAddr) -> bool {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let Ok(socket) = UdpSocket::bind(address) else {
        return false;
    };
    RESERVED.lock().expect("no thread panics").push(socket);
    true
}

/// Not those of the second ports of Redis clusters in the tests, from 18,100 on.
const PORTS: std::ops::Range<u16> = 11_000..18_000;
const PORTS_PER_PROCESS: usize = 100;
