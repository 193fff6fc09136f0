//! The master as named by sentinels.
//!
//! One task per sentinel listens for `+switch-master`; it also asks once a second, and when an
//! operation suspects a change. Another task chooses among the current answers. After a failover,
//! sentinels are updated at different times; the answer of the latest election takes precedence.
//! Sentinels that were repaired (`SENTINEL REMOVE`, `MONITOR`) or redeployed restart their count of
//! elections: while those and others disagree, the majority decides. If the answers differ, only a
//! server that reports itself as a master is chosen. Answers that name one server in two ways, by a
//! host name and by an address, count as equal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::net::lookup_host;
use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::{Address, Topology};
use super::error::{Failure, RedisError, RedisErrorKind};
use super::link::{self, NotOpened};
use super::near::Near;
use super::opinions::{Named, Opinions};
use super::outage::{Outage, Report};
use super::role::RoleCommand;
use super::settings::{CONNECT_WITHIN, Settings};

/// The master, as far as it is known.
#[derive(Debug)]
pub(super) struct Sentinel {
    shared: Arc<Shared>,
    /// The tasks end when this is dropped.
    listening: OnceLock<watch::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    master: watch::Sender<Option<Address>>,
    opinions: Mutex<Opinions>,
    /// Wakes the task that chooses.
    changed: Notify,
    suspected: Notify,
    near: Option<Arc<Near>>,
}

impl Sentinel {
    pub(super) fn new(settings: Arc<Settings>, near: Option<Arc<Near>>) -> Self {
        let sentinels = settings.url.addresses.len();
        Self {
            shared: Arc::new(Shared {
                settings,
                master: watch::Sender::new(None),
                opinions: Mutex::new(Opinions::new(sentinels)),
                changed: Notify::new(),
                suspected: Notify::new(),
                near,
            }),
            listening: OnceLock::new(),
        }
    }

    pub(super) async fn master(&self, deadline: Instant) -> Result<Address, RedisError> {
        self.listening.get_or_init(|| {
            let (alive, end) = watch::channel(());
            for number in 0..self.shared.settings.url.addresses.len() {
                task::spawn(keep_listening(number, self.shared.clone(), end.clone()));
            }
            task::spawn(keep_choosing(self.shared.clone(), end));
            alive
        });
        let mut master = self.shared.master.subscribe();
        let known = timeout_at(deadline, master.wait_for(Option::is_some)).await;
        if let Ok(Ok(known)) = known
            && let Some(address) = &*known
        {
            return Ok(address.clone());
        }
        let detail = "no sentinel names a master: check their addresses, their credentials, and \
                      the master's name";
        Err(RedisError::new(RedisErrorKind::Unreachable, detail))
    }

    pub(super) fn is_master(&self, address: &Address) -> bool {
        self.shared.master.borrow().as_ref() == Some(address)
    }

    pub(super) fn suspect(&self) {
        self.shared.suspected.notify_waiters();
    }
}

impl Shared {
    fn opinions(&self) -> MutexGuard<'_, Opinions> {
        self.opinions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, address: &Address) {
        self.master.send_if_modified(|known| {
            let changed = known.as_ref() != Some(address);
            if changed {
                tracing::info!(master = %address, "the sentinels name a master");
                *known = Some(address.clone());
                if let Some(near) = &self.near {
                    near.moved();
                }
            }
            changed
        });
    }
}

/// Chooses a master whenever the answers change, and once a second while they name another one.
async fn keep_choosing(shared: Arc<Shared>, mut end: watch::Receiver<()>) {
    let mut names = Names::default();
    let mut outage = Outage::default();
    loop {
        let choosing = async {
            // The changes are read below.
            let _ = timeout(CHOOSE_EVERY, shared.changed.notified()).await;
            let answers = shared.opinions().answers();
            log(&mut outage, answers.is_empty());
            let known = shared.master.borrow().clone();
            if answers.iter().any(|named| Some(named) != known.as_ref()) {
                choose(&shared, known.as_ref(), answers, &mut names).await;
            }
        };
        tokio::select! {
            () = choosing => {}
            _ = end.changed() => return,
        }
    }
}

/// Logs that no sentinel can be asked, and the end of that.
fn log(outage: &mut Outage, is_silent: bool) {
    let now = Instant::now();
    if !is_silent {
        if let Some(lasted) = outage.ends(now) {
            let elapsed_ms = lasted.as_millis() as u64;
            // The first answer of a store that has just started ends no outage.
            if lasted >= SILENCE_MIN {
                tracing::info!(elapsed_ms, "a sentinel names a master again");
            }
        }
        return;
    }
    match outage.fails(now) {
        Some(Report::Lasts(lasted)) => {
            let elapsed_ms = lasted.as_millis() as u64;
            tracing::warn!(elapsed_ms, "no sentinel names a master");
        }
        Some(Report::Begins) => tracing::warn!("no sentinel names a master"),
        None => {}
    }
}

async fn choose(
    shared: &Arc<Shared>,
    known: Option<&Address>,
    mut addresses: Vec<Address>,
    names: &mut Names,
) {
    addresses.extend(known.cloned());
    names.resolve(&addresses).await;
    let candidates = shared
        .opinions()
        .ranking(known, |one, other| names.are_one(one, other));
    let Some(first) = candidates.first() else {
        return;
    };
    if candidates.len() == 1 && known.is_none_or(|known| known == first) {
        shared.publish(first);
        return;
    }
    let masters = masters(&shared.settings, &candidates).await;
    let chosen = candidates.iter().find(|address| masters.contains(address));
    match chosen {
        Some(address) => shared.publish(address),
        None if known.is_none() => shared.publish(first),
        None => {}
    }
}

/// The servers without those that report themselves as replicas, or cannot be asked.
async fn masters(settings: &Arc<Settings>, candidates: &[Address]) -> Vec<Address> {
    let mut asked = JoinSet::new();
    for address in candidates {
        let (settings, address) = (settings.clone(), address.clone());
        asked.spawn(async move {
            let is_master = timeout(ANSWER_WITHIN, is_master(&settings, &address)).await;
            matches!(is_master, Ok(Ok(true))).then_some(address)
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

async fn is_master(settings: &Settings, address: &Address) -> Result<bool, NotOpened> {
    let info = link::info(&settings.url.credentials, settings.url.database, false);
    let (mut connection, driver) = link::connect(address, settings, &info, None).await?;
    let _driver = AbortOnDrop(driver);
    for role in [RoleCommand::Role, RoleCommand::Info] {
        let asked = connection
            .send_packed_commands(&role.pipeline(), 0, 1)
            .await;
        let replies = asked.map_err(|e| NotOpened::Unusable(Failure::of(&e).into_error()))?;
        if let Some(is_master) = replies.first().and_then(|reply| role.is_master(reply)) {
            return Ok(is_master);
        }
    }
    // A server that does not report its role is trusted to be what the sentinels name.
    Ok(true)
}

/// The addresses of host names.
#[derive(Debug, Default)]
struct Names(HashMap<Address, (Instant, Vec<SocketAddr>)>);

impl Names {
    /// Looks up the unknown names, and drops those that are not needed.
    async fn resolve(&mut self, addresses: &[Address]) {
        self.0
            .retain(|address, (at, _)| addresses.contains(address) && at.elapsed() < NAMES_FOR);
        if addresses.windows(2).all(|two| two[0] == two[1]) {
            return;
        }
        for address in addresses {
            if !self.0.contains_key(address) {
                let found = lookup_host((address.host.as_str(), address.port));
                let found = match timeout(ANSWER_WITHIN, found).await {
                    Ok(Ok(found)) => found.map(canonical).collect(),
                    _ => Vec::new(),
                };
                self.0.insert(address.clone(), (Instant::now(), found));
            }
        }
    }

    /// Returns `true` if both names lead to one server.
    fn are_one(&self, one: &Address, other: &Address) -> bool {
        let found = |address| self.0.get(address).map(|(_, found)| found.as_slice());
        one == other
            || found(one)
                .zip(found(other))
                .is_some_and(|(one, other)| one.iter().any(|address| other.contains(address)))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn keep_listening(number: usize, shared: Arc<Shared>, mut end: watch::Receiver<()>) {
    let sentinel = &shared.settings.url.addresses[number];
    loop {
        tokio::select! {
            Err(error) = listen(number, sentinel, &shared) => {
                tracing::debug!(%sentinel, error = %error.again(), "a sentinel cannot be used");
            }
            _ = end.changed() => return,
        }
        if shared.opinions().withdraw(number) {
            shared.changed.notify_one();
        }
        tokio::select! {
            () = sleep(RECONNECT_PAUSE) => {}
            _ = end.changed() => return,
        }
    }
}

/// Asks for the master repeatedly: when the sentinel announces a change, when an operation suspects
/// one, and once a second.
async fn listen(
    number: usize,
    sentinel: &Address,
    shared: &Shared,
) -> Result<std::convert::Infallible, RedisError> {
    let Topology::Sentinel { master } = &shared.settings.url.topology else {
        return Err(RedisError::new(RedisErrorKind::Config, "no master's name"));
    };
    let announced = Arc::new(Notify::new());
    let connecting = subscribe(sentinel, &shared.settings, &announced);
    let silent = || RedisError::new(RedisErrorKind::Unreachable, format!("{sentinel} is silent"));
    let (mut connection, driver) = timeout(CONNECT_WITHIN, connecting)
        .await
        .map_err(|_| silent())??;
    let _driver = AbortOnDrop(driver);
    loop {
        let asked = timeout(ANSWER_WITHIN, ask(&mut connection, master)).await;
        let named = asked.map_err(|_| silent())??;
        if shared.opinions().answer(number, named) {
            shared.changed.notify_one();
        }
        tokio::select! {
            () = announced.notified() => {}
            () = shared.suspected.notified() => sleep(SUSPICION_PAUSE).await,
            () = sleep(ASK_EVERY) => {}
        }
    }
}

/// A connection on which a sentinel announces changes, if it can; otherwise it is only polled.
async fn subscribe(
    sentinel: &Address,
    settings: &Settings,
    announced: &Arc<Notify>,
) -> Result<(MultiplexedConnection, JoinHandle<()>), RedisError> {
    let info = |pushes| link::info(&settings.sentinel_credentials, 0, pushes);
    let pushes = Arc::new(Changed(announced.clone()));
    match link::connect(sentinel, settings, &info(true), Some(pushes)).await {
        Ok((mut connection, driver)) => {
            let subscribed = connection.subscribe("+switch-master");
            if let Ok(Ok(())) = timeout(ANSWER_WITHIN, subscribed).await {
                return Ok((connection, driver));
            }
            driver.abort();
        }
        Err(NotOpened::Unusable(error)) => return Err(error),
        Err(NotOpened::Refused(_) | NotOpened::Broken(_)) => {}
    }
    let connected = link::connect(sentinel, settings, &info(false), None).await;
    connected.map_err(NotOpened::into_error)
}

async fn ask(connection: &mut MultiplexedConnection, name: &str) -> Result<Named, RedisError> {
    let mut question = redis::pipe();
    question.cmd("SENTINEL").arg("MASTER").arg(name);
    let broken = |error: redis::RedisError| {
        let what = format!("no answer of a sentinel about `{name}`");
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
    let named = (|| {
        Some(Named {
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

/// Wakes the listener when the sentinel announces a change, or closes the connection.
struct Changed(Arc<Notify>);

impl AsyncPushSender for Changed {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
            self.0.notify_one();
        }
        Ok(())
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The minimum interval between questions to a sentinel, for any number of suspicions.
const SUSPICION_PAUSE: Duration = Duration::from_millis(50);
/// The interval without any suspicion: an announcement may be lost, and a failed sentinel is
/// noticed.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The interval at which the servers are asked for their roles while the sentinels differ.
const CHOOSE_EVERY: Duration = Duration::from_secs(1);
/// How long the addresses of a name are used.
const NAMES_FOR: Duration = Duration::from_secs(10);
/// Shorter outages of all sentinels are not logged when they end.
const SILENCE_MIN: Duration = Duration::from_secs(2);
