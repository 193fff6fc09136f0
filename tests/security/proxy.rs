//! A proxy between two nodes, which records, changes, cuts or repeats their bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// What is done to the bytes of one direction of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    None,
    /// One byte after the other.
    Dribble,
    /// As many bytes as `count` from this place on are other ones.
    Flip {
        at: usize,
        count: usize,
    },
    /// The connection ends before this place: in order, or not.
    Cut {
        at: usize,
        reset: bool,
    },
    /// From this place on every piece is sent twice.
    Twice(usize),
}

/// A way to a node that does something to what goes over it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    target: Mutex<Option<SocketAddr>>,
    /// Toward the node, and back.
    tricks: Mutex<[Trick; 2]>,
    /// What went toward the node, and back, by connection.
    recorded: Mutex<Vec<[Vec<u8>; 2]>>,
    ended: AtomicUsize,
    cut: Notify,
}

impl Proxy {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::default(),
            tricks: Mutex::new([Trick::None; 2]),
            recorded: Mutex::default(),
            ended: AtomicUsize::new(0),
            cut: Notify::new(),
        });
        let task = tokio::spawn(run(listener, state.clone()));
        Self {
            address,
            state,
            task,
        }
    }

    pub(crate) fn leads_to(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = Some(target);
    }

    /// From the next connection on.
    pub(crate) fn trick(&self, toward: Trick, back: Trick) {
        *self.state.tricks.lock().unwrap() = [toward, back];
    }

    /// Ends the connections that there are.
    pub(crate) fn cut_all(&self) {
        self.state.cut.notify_waiters();
    }

    /// What has gone toward the node, and back, by connection.
    pub(crate) fn recorded(&self) -> Vec<[Vec<u8>; 2]> {
        self.state.recorded.lock().unwrap().clone()
    }

    /// How many connections have ended.
    pub(crate) fn ended(&self) -> usize {
        self.state.ended.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(carry(stream, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(dialer: TcpStream, state: Arc<State>) {
    let Some(target) = *state.target.lock().unwrap() else {
        return;
    };
    let Ok(node) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&dialer, &node] {
        stream.set_nodelay(true).unwrap();
    }
    let number = {
        let mut recorded = state.recorded.lock().unwrap();
        recorded.push(Default::default());
        recorded.len() - 1
    };
    let [toward, back] = *state.tricks.lock().unwrap();
    let (from_dialer, to_dialer) = dialer.into_split();
    let (from_node, to_node) = node.into_split();
    let record = |way: usize| {
        let state = &state;
        move |bytes: &[u8]| state.recorded.lock().unwrap()[number][way].extend_from_slice(bytes)
    };
    // Whichever direction ends first ends both, as a broken connection does.
    tokio::select! {
        () = pump(from_dialer, to_node, toward, record(0)) => {}
        () = pump(from_node, to_dialer, back, record(1)) => {}
        () = state.cut.notified() => {}
    }
    state.ended.fetch_add(1, Relaxed);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    trick: Trick,
    record: impl Fn(&[u8]),
) {
    let mut passed = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let bytes = &mut buffer[..read];
        record(bytes);
        let sent = match trick {
            Trick::Flip { at, count } => {
                for (place, byte) in (passed..).zip(bytes.iter_mut()) {
                    *byte ^= u8::from((at..at + count).contains(&place));
                }
                to.write_all(bytes).await
            }
            Trick::Cut { at, reset } if at < passed + read => {
                let _ = to.write_all(&bytes[..at.saturating_sub(passed)]).await;
                if reset {
                    to.as_ref().set_zero_linger().unwrap();
                }
                return;
            }
            Trick::Twice(at) if at <= passed => to.write_all(&bytes.repeat(2)).await,
            Trick::Dribble => dribble(&mut to, bytes).await,
            _ => to.write_all(bytes).await,
        };
        if sent.is_err() {
            return;
        }
        passed += read;
    }
}

async fn dribble(to: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        to.write_all(&[*byte]).await?;
    }
    Ok(())
}

/// A connection from another address of this machine.
pub(crate) async fn connect_from(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    socket.connect(to).await
}
