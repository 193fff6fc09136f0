//! The connection to one sentinel, which is asked for the primary repeatedly.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::store::redis::config::{CONNECT_WITHIN, RedisConfig};
use crate::store::redis::connect::{self, GreetedConnection, OpenError};
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::topology::sentinel::answers::NamedPrimary;
use crate::store::redis::topology::sentinel::{ANSWER_WITHIN, AbortOnDrop, SentinelShared};
use crate::store::redis::url::{Address, Deployment};

/// Listens to a sentinel until the store ends, and connects again when the connection breaks.
pub(super) async fn keep_listening(
    number: usize,
    shared: Arc<SentinelShared>,
    mut end: watch::Receiver<()>,
) {
    let sentinel = &shared.config.url.addresses[number];
    loop {
        tokio::select! {
            Err(error) = listen(number, sentinel, &shared) => {
                let failure = error.flattened();
                tracing::debug!(address = %sentinel, cause = %failure, "a sentinel cannot be used");
                shared.record_failure(failure);
            }
            _ = end.changed() => return,
        }
        // The old answer of a sentinel that has failed must not outvote the current ones of the
        // others.
        if shared.answers().withdraw(number) {
            shared.changed.notify_one();
        }
        tokio::select! {
            () = sleep(RECONNECT_PAUSE) => {}
            _ = end.changed() => return,
        }
    }
}

/// Asks for the primary repeatedly: when the sentinel announces a change, when an operation
/// suspects one, and once a second.
async fn listen(
    number: usize,
    sentinel: &Address,
    shared: &SentinelShared,
) -> Result<Infallible, RedisError> {
    let Deployment::Sentinel { primary_name } = &shared.config.url.topology else {
        return Err(RedisError::new(RedisErrorKind::Config, "no primary name"));
    };
    let announced = Arc::new(Notify::new());
    let connecting = subscribe(sentinel, &shared.config, &announced);
    let silent = || RedisError::new(RedisErrorKind::Unreachable, format!("{sentinel} is silent"));
    let GreetedConnection {
        mut connection,
        driver,
        ..
    } = timeout(CONNECT_WITHIN, connecting)
        .await
        .map_err(|_| silent())??;
    let _driver = AbortOnDrop(driver);
    loop {
        let asked = timeout(ANSWER_WITHIN, ask(&mut connection, sentinel, primary_name)).await;
        let named = asked.map_err(|_| silent())??;
        if shared.answers().record(number, named) {
            shared.changed.notify_one();
        }
        tokio::select! {
            () = announced.notified() => {}
            () = shared.stale.notified() => sleep(SUSPICION_PAUSE).await,
            () = sleep(ASK_EVERY) => {}
        }
    }
}

/// A connection on which a sentinel announces changes, if it can; otherwise it is only polled.
async fn subscribe(
    sentinel: &Address,
    config: &RedisConfig,
    announced: &Arc<Notify>,
) -> Result<GreetedConnection, RedisError> {
    let info = |pushes| connect::greeting(&config.sentinel_credentials, 0, pushes);
    let pushes = Arc::new(SwitchReceiver(announced.clone()));
    match connect::connect(sentinel, config, &info(true), Some(pushes)).await {
        Ok(mut connected) => {
            let subscribed = connected.connection.subscribe("+switch-master");
            if let Ok(Ok(())) = timeout(ANSWER_WITHIN, subscribed).await {
                return Ok(connected);
            }
            connected.driver.abort();
        }
        Err(OpenError::Unusable(error)) => return Err(error),
        Err(OpenError::Refused(_) | OpenError::Broken(_)) => {}
    }
    let connected = connect::connect(sentinel, config, &info(false), None).await;
    connected.map_err(OpenError::into_error)
}

async fn ask(
    connection: &mut MultiplexedConnection,
    sentinel: &Address,
    name: &str,
) -> Result<NamedPrimary, RedisError> {
    let mut question = redis::pipe();
    question.cmd("SENTINEL").arg("MASTER").arg(name);
    let broken = |error: redis::RedisError| {
        let message = format!("{sentinel} gives no answer about `{name}`");
        RedisError::new(RedisErrorKind::Unreachable, message).with_source(error)
    };
    let mut replies = connection
        .send_packed_commands(&question, 0, 1)
        .await
        .map_err(broken)?;
    let fields = match replies.pop() {
        Some(Value::Map(fields)) => fields,
        Some(Value::Array(list)) => pairs(list),
        Some(Value::ServerError(error)) => return Err(broken(error.into())),
        _ => Vec::new(),
    };
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| text(key) == Some(name));
        found.and_then(|(_, value)| text(value))
    };
    let named = (|| {
        Some(NamedPrimary {
            epoch: field("config-epoch")?.parse().ok()?,
            address: Address {
                host: field("ip")?.to_owned(),
                port: field("port")?.parse().ok()?,
            },
        })
    })();
    named.ok_or_else(|| {
        RedisError::new(
            RedisErrorKind::Unexpected,
            format!("{sentinel} about `{name}`"),
        )
    })
}

fn pairs(list: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::new();
    let mut list = list.into_iter();
    while let (Some(name), Some(value)) = (list.next(), list.next()) {
        pairs.push((name, value));
    }
    pairs
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Wakes the listener when the sentinel announces a change, or closes the connection.
struct SwitchReceiver(Arc<Notify>);

impl AsyncPushSender for SwitchReceiver {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
            self.0.notify_one();
        }
        Ok(())
    }
}

const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The minimum interval between questions to a sentinel, for any number of suspicions.
const SUSPICION_PAUSE: Duration = Duration::from_millis(50);
/// The interval without any suspicion: an announcement may be lost, and a failed sentinel is
/// noticed.
const ASK_EVERY: Duration = Duration::from_secs(1);
