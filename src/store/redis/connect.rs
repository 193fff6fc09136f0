//! Opening of a connection: TCP, TLS and the greeting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::{self, JoinHandle};
use tokio::time::timeout;

use crate::store::redis::activity::{Activity, MonitoredStream};
use crate::store::redis::config::{CONNECT_WITHIN, RedisConfig};
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::url::{Address, Credentials};

/// The reason why a connection could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The server cannot be reached, or does not serve; another protocol would not help.
    Unusable(RedisError),
    /// The server has refused the greeting.
    Refused(RedisError),
    /// The connection broke during the greeting.
    Broken(RedisError),
}

impl OpenError {
    pub(super) fn into_error(self) -> RedisError {
        match self {
            Self::Unusable(error) | Self::Refused(error) | Self::Broken(error) => error,
        }
    }
}

/// The receiver of a server's push messages.
pub(super) type PushReceiver = Arc<dyn AsyncPushSender>;

/// A connection on which only the greeting was sent.
pub(super) struct GreetedConnection {
    pub(super) connection: MultiplexedConnection,
    /// The task that moves its data.
    pub(super) driver: JoinHandle<()>,
    pub(super) activity: Arc<Activity>,
}

/// Connects and sends the greeting.
pub(super) async fn connect(
    address: &Address,
    config: &RedisConfig,
    info: &RedisConnectionInfo,
    pushes: Option<PushReceiver>,
) -> Result<GreetedConnection, OpenError> {
    let unreachable = |error: io::Error| {
        let message = format!("no connection to {address}");
        OpenError::Unusable(
            RedisError::new(RedisErrorKind::Unreachable, message).with_source(error),
        )
    };
    let tcp = dial(address).await.map_err(unreachable)?;
    let stream = MonitoredStream::new(tcp).map_err(unreachable)?;
    let activity = stream.activity().clone();
    let mut options = AsyncConnectionConfig::new()
        // `RedisConnection::send_within` watches the data that moves. A fixed time would end large
        // answers on a slow link.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(config.max_in_flight);
    if let Some(pushes) = pushes {
        options = options.set_push_sender(pushes);
    }
    let greeted = match &config.tls {
        None => {
            greet(MultiplexedConnection::new_with_config(
                info, stream, options,
            ))
            .await
        }
        Some(tls) => {
            let wrapped = tls.wrap(&address.host, stream).await;
            let stream = wrapped.map_err(OpenError::Unusable)?;
            greet(MultiplexedConnection::new_with_config(
                info, stream, options,
            ))
            .await
        }
    };
    let (connection, driver) =
        greeted.map_err(|error| match CommandFailure::of_greeting(&error) {
            CommandFailure::Broken(error) => OpenError::Broken(error),
            failure => OpenError::Refused(failure.into_error()),
        })?;
    Ok(GreetedConnection {
        connection,
        driver,
        activity,
    })
}

/// Connects to the first address of the host that accepts.
async fn dial(address: &Address) -> io::Result<TcpStream> {
    let found = lookup_host((address.host.as_str(), address.port)).await?;
    dial_one_of(&found.collect::<Vec<_>>()).await
}

async fn dial_one_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    // An address that drops packets leaves time for the others, and for the greeting.
    let share = CONNECT_WITHIN / 2 / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (number, address) in addresses.iter().enumerate() {
        let is_last = number + 1 == addresses.len();
        let limit = if is_last { CONNECT_WITHIN } else { share };
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(late) => failure = late.into(),
        }
    }
    Err(failure)
}

/// Returns the greeting: the protocol, the database and the credentials.
pub(super) fn greeting(
    credentials: &Credentials,
    database: i64,
    pushes: bool,
) -> RedisConnectionInfo {
    let protocol = if pushes {
        ProtocolVersion::RESP3
    } else {
        ProtocolVersion::RESP2
    };
    let mut info = RedisConnectionInfo::default()
        .set_db(database)
        .set_protocol(protocol)
        .set_skip_set_lib_name();
    if let Some(user) = &credentials.user {
        info = info.set_username(user);
    }
    if let Some(password) = &credentials.password {
        info = info.set_password(password);
    }
    info
}

async fn greet<D: Future<Output = ()> + Send + 'static>(
    greeting: impl Future<Output = redis::RedisResult<(MultiplexedConnection, D)>>,
) -> redis::RedisResult<(MultiplexedConnection, JoinHandle<()>)> {
    let (connection, driver) = greeting.await?;
    Ok((connection, task::spawn(driver)))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    /// The first address of a name drops packets, as a server behind a firewall does.
    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = TcpSocket::new_v4().expect("there is one");
        socket.bind(any).expect("it is free");
        let full = socket.listen(1).expect("it is bound");
        let first = full.local_addr().expect("it is bound");
        // A listener whose queue is full answers no further connection.
        let mut queued = Vec::new();
        let pause = CONNECT_WITHIN / 8;
        while let Ok(stream) = timeout(pause, TcpStream::connect(first)).await {
            queued.push(stream.expect("the queue has room"));
        }
        let open = TcpListener::bind(any).await.expect("it is free");
        let second = open.local_addr().expect("it is bound");
        let start = Instant::now();
        let dialed = timeout(CONNECT_WITHIN, dial_one_of(&[first, second])).await;
        let stream = dialed.expect("it is in time").expect("one is open");
        assert_eq!(stream.peer_addr().ok(), Some(second));
        assert!(start.elapsed() >= CONNECT_WITHIN / 4);
        dial_one_of(&[]).await.expect_err("there is none");
    }
}
