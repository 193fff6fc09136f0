//! Which server the sentinels call the master.
//!
//! One task per sentinel listens for its word that the master has changed, and asks when somebody
//! suspects so. Sentinels may lag behind each other: the word of the latest election counts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::{Address, Topology};
use super::error::{RedisError, RedisErrorKind};
use super::link::{self, NotOpened};
use super::near::Near;
use super::settings::{CONNECT_WITHIN, Settings};

/// The master, as far as is known.
#[derive(Debug)]
pub(super) struct Sentinel {
    settings: Arc<Settings>,
    news: Arc<News>,
    /// Listeners end when this does.
    listening: OnceLock<watch::Sender<()>>,
}

#[derive(Debug)]
struct News {
    master: watch::Sender<Option<Master>>,
    suspected: Notify,
    near: Option<Arc<Near>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Master {
    /// The election that made it the master: larger is later.
    epoch: u64,
    address: Address,
}

impl Sentinel {
    pub(super) fn new(settings: Arc<Settings>, near: Option<Arc<Near>>) -> Self {
        Self {
            settings,
            news: Arc::new(News {
                master: watch::Sender::new(None),
                suspected: Notify::new(),
                near,
            }),
            listening: OnceLock::new(),
        }
    }

    pub(super) async fn master(&self, deadline: Instant) -> Result<Address, RedisError> {
        self.listening.get_or_init(|| {
            let (alive, end) = watch::channel(());
            for sentinel in &self.settings.url.addresses {
                let (settings, news) = (self.settings.clone(), self.news.clone());
                task::spawn(keep_listening(
                    sentinel.clone(),
                    settings,
                    news,
                    end.clone(),
                ));
            }
            alive
        });
        let mut master = self.news.master.subscribe();
        let known = timeout_at(deadline, master.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(known)) => Ok(known.as_ref().expect("it is some").address.clone()),
            _ => {
                let detail = "no sentinel names a master: check their addresses, their \
                              credentials, and the master's name";
                Err(RedisError::new(RedisErrorKind::Unreachable, detail))
            }
        }
    }

    pub(super) fn is_master(&self, address: &Address) -> bool {
        let known = self.news.master.borrow();
        known
            .as_ref()
            .is_some_and(|master| master.address == *address)
    }

    pub(super) fn suspect(&self) {
        self.news.suspected.notify_waiters();
    }
}

impl News {
    fn publish(&self, master: Master) {
        self.master.send_if_modified(|known| {
            let newer = known
                .as_ref()
                .is_none_or(|known| known.epoch <= master.epoch && *known != master);
            if newer {
                tracing::info!(master = %master.address, "the sentinels name a master");
                *known = Some(master);
                if let Some(near) = &self.near {
                    near.moved();
                }
            }
            newer
        });
    }
}

async fn keep_listening(
    sentinel: Address,
    settings: Arc<Settings>,
    news: Arc<News>,
    mut end: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            Err(error) = listen(&sentinel, &settings, &news) => {
                tracing::debug!(%sentinel, error = %error.again(), "a sentinel cannot be used");
            }
            _ = end.changed() => return,
        }
        tokio::select! {
            () = sleep(RECONNECT_PAUSE) => {}
            _ = end.changed() => return,
        }
    }
}

/// Asks who the master is, again and again: when the sentinel says that it has changed, when
/// somebody suspects it, and now and then.
async fn listen(
    sentinel: &Address,
    settings: &Settings,
    news: &News,
) -> Result<std::convert::Infallible, RedisError> {
    let Topology::Sentinel { master } = &settings.url.topology else {
        return Err(RedisError::new(RedisErrorKind::Config, "no master's name"));
    };
    let changed = Arc::new(Notify::new());
    let info = link::info(&settings.sentinel_credentials, 0, true);
    let pushes = Arc::new(Changed(changed.clone()));
    let connected = link::connect(sentinel, settings, &info, Some(pushes));
    let late = || RedisError::new(RedisErrorKind::Unreachable, format!("{sentinel} is silent"));
    let (mut connection, _driver) = timeout(CONNECT_WITHIN, connected)
        .await
        .map_err(|_| late())?
        .map_err(NotOpened::into_error)?;
    let subscribed = timeout(ANSWER_WITHIN, connection.subscribe("+switch-master"));
    subscribed
        .await
        .map_err(|_| late())?
        .map_err(|error| late().because(error))?;
    loop {
        let asked = timeout(ANSWER_WITHIN, ask(&mut connection, master));
        news.publish(asked.await.map_err(|_| late())??);
        tokio::select! {
            () = changed.notified() => {}
            () = news.suspected.notified() => sleep(SUSPICION_PAUSE).await,
            () = sleep(ASK_EVERY) => {}
        }
    }
}

async fn ask(connection: &mut MultiplexedConnection, name: &str) -> Result<Master, RedisError> {
    let mut question = redis::pipe();
    question.cmd("SENTINEL").arg("MASTER").arg(name);
    let broken = |error: redis::RedisError| {
        let what = format!("a sentinel says nothing about `{name}`");
        RedisError::new(RedisErrorKind::Unreachable, what).because(error)
    };
    let replies = connection.send_packed_commands(&question, 0, 1).await;
    let mut replies = replies.map_err(broken)?;
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
    let master = (|| {
        Some(Master {
            epoch: field("config-epoch")?.parse().ok()?,
            address: Address {
                host: field("ip")?.to_owned(),
                port: field("port")?.parse().ok()?,
            },
        })
    })();
    master.ok_or_else(|| {
        RedisError::new(
            RedisErrorKind::Unexpected,
            format!("a sentinel about `{name}`"),
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

/// Wakes the listener when the sentinel says something, or nothing any more.
struct Changed(Arc<Notify>);

impl AsyncPushSender for Changed {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
            self.0.notify_one();
        }
        Ok(())
    }
}

const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// However many requests suspect the master, a sentinel is asked this seldom.
const SUSPICION_PAUSE: Duration = Duration::from_millis(50);
/// Without any suspicion: a word may be lost, and a dead sentinel is found out.
const ASK_EVERY: Duration = Duration::from_secs(1);
