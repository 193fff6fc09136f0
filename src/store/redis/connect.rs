//! Opening of a connection: TCP, TLS and the greeting.

use std::sync::Arc;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use tokio::net::TcpStream;
use tokio::task::{self, JoinHandle};

use crate::store::redis::activity::{Activity, MonitoredStream};
use crate::store::redis::config::RedisConfig;
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
    let unreachable = |error: std::io::Error| {
        let message = format!("no connection to {address}");
        OpenError::Unusable(
            RedisError::new(RedisErrorKind::Unreachable, message).with_source(error),
        )
    };
    let tcp = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(unreachable)?;
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
