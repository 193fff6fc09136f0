//! Reservations of ports for servers that a test is about to start.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

/// Reserves a loopback port for a server. Returns `false` if a server listens on it already, or if
/// another call has reserved it, in this process or in another one. The reservation lasts as long
/// as the process: the test may start its server anew.
///
/// It is a UDP socket, which is in no TCP server's way. A listener that is opened to see whether
/// the port is free would be: another thread may start a process meanwhile, which has a copy of
/// the listener until it executes its program.
pub(crate) fn reserve(port: u16) -> bool {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(reservation) = UdpSocket::bind(address) else {
        return false;
    };
    let connected = TcpStream::connect_timeout(&address, REFUSED_WITHIN);
    let is_free = connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if is_free {
        let mut reserved = RESERVED.lock().expect("adding to a list does not panic");
        reserved.push(reservation);
    }
    is_free
}

/// Without a listener, the system refuses a connection at once. A listener whose queue is full lets
/// it wait.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
