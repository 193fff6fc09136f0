//! The store behind the probe.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use distributable::session::Record;
use distributable::store::{
    Member, MemberState, MemoryStatus, Multicast, RedisError, RefusedNode, ReplicatedStoreBuilder,
    Secret, SnapshotError, SnapshotStoreBuilder,
};
use distributable::{
    Copies, MemoryStore, RedisStore, ReplicatedStore, Root, Route, Scope, SessionCookie,
    SessionEvents, SessionHeader, SessionInfo, SessionLayer, SessionStore, SetupError,
    SnapshotStore, StoreError, UserKey,
};
use serde_json::{Value, json};

use crate::args::{Args, Store};
use crate::reply::Reply;

/// One of the stores, with the operations that the probe needs beyond sessions.
pub(crate) enum Backend {
    Memory(MemoryStore),
    File(SnapshotStore<MemoryStore>),
    Redis(RedisStore),
    Replicated(ReplicatedStore),
    ReplicatedFile(SnapshotStore<ReplicatedStore>),
}

impl Backend {
    /// Starts the store; a clustered one binds its port now and finds the other nodes later.
    pub(crate) async fn start(args: &Args, http_port: u16) -> Result<Self, Box<dyn Error>> {
        match args.store {
            Store::Memory => Ok(Self::Memory(memory(args))),
            Store::File => Ok(Self::File(snapshot(args)?.open(memory(args)).await?)),
            Store::Replicated if args.file.is_some() => {
                let node = replicated(args, http_port)?;
                Ok(Self::ReplicatedFile(snapshot(args)?.start(node).await?))
            }
            Store::Replicated => Ok(Self::Replicated(
                replicated(args, http_port)?.start().await?,
            )),
            Store::Redis => Ok(Self::Redis(redis(args)?)),
        }
    }

    /// The layer that provides sessions to the handlers.
    pub(crate) fn layer(&self, args: &Args) -> Result<SessionLayer, Box<dyn Error>> {
        let cookie = SessionCookie::builder(&args.cookie_name)
            .secure(args.secure)
            .build()?;
        let layer = match self {
            Self::Memory(store) => SessionLayer::new(store.clone()),
            Self::File(store) => SessionLayer::new(store.clone()),
            Self::Redis(store) => SessionLayer::new(store.clone()),
            Self::Replicated(store) => SessionLayer::new(store.clone()),
            Self::ReplicatedFile(store) => SessionLayer::new(store.clone()),
        };
        let layer = match &args.id_header {
            Some(name) => layer.with_cookie_or_header(cookie, SessionHeader::new(name)?),
            None => layer.with_cookie(cookie),
        };
        let layer = layer
            .with_affinity(args.affinity)
            .with_idle_timeout((args.idle > 0).then(|| Duration::from_secs(args.idle)))
            .with_absolute_timeout(Duration::from_secs(args.absolute));
        let layer = match args.per_user {
            Some(sessions) => layer.with_max_sessions_per_user(sessions),
            None => layer,
        };
        Ok(match &args.route {
            Some(route) => layer.with_route(Route::new(route)?),
            None => layer,
        })
    }

    /// The sessions of a user.
    pub(crate) async fn sessions_of(&self, user: UserKey) -> Result<Vec<SessionInfo>, StoreError> {
        match self {
            Self::Memory(store) => store.sessions_of(user).await,
            Self::File(store) => store.sessions_of(user).await,
            Self::Redis(store) => store.sessions_of(user).await,
            Self::Replicated(store) => store.sessions_of(user).await,
            Self::ReplicatedFile(store) => store.sessions_of(user).await,
        }
    }

    /// Ends all of them, or all but one.
    pub(crate) async fn end_user(
        &self,
        user: UserKey,
        kept: Option<Root>,
    ) -> Result<usize, StoreError> {
        match self {
            Self::Memory(store) => end_user(store, user, kept).await,
            Self::File(store) => end_user(store, user, kept).await,
            Self::Redis(store) => end_user(store, user, kept).await,
            Self::Replicated(store) => end_user(store, user, kept).await,
            Self::ReplicatedFile(store) => end_user(store, user, kept).await,
        }
    }

    /// A session, without using it.
    pub(crate) async fn peek(&self, key: &Root) -> Result<Option<Arc<Record>>, StoreError> {
        match self {
            Self::Memory(store) => store.peek(key).await,
            Self::File(store) => store.peek(key).await,
            Self::Redis(store) => store.peek(key).await,
            Self::Replicated(store) => store.peek(key).await,
            Self::ReplicatedFile(store) => store.peek(key).await,
        }
    }

    /// Ends a session.
    pub(crate) async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.delete(key).await,
            Self::File(store) => store.delete(key).await,
            Self::Redis(store) => store.delete(key).await,
            Self::Replicated(store) => store.delete(key).await,
            Self::ReplicatedFile(store) => store.delete(key).await,
        }
    }

    /// What happens to sessions from now on.
    pub(crate) fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        match self {
            Self::Memory(store) => store.events(scope),
            Self::File(store) => store.events(scope),
            Self::Redis(store) => store.events(scope),
            Self::Replicated(store) => store.events(scope),
            Self::ReplicatedFile(store) => store.events(scope),
        }
    }

    /// Returns `true` if requests may be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Memory(_) | Self::File(_) => true,
            Self::Redis(store) => store.is_ready(),
            Self::Replicated(store) => store.is_ready(),
            Self::ReplicatedFile(store) => store.store().is_ready(),
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        match self {
            Self::Memory(_) | Self::File(_) | Self::Redis(_) => {}
            Self::Replicated(store) => store.ready().await,
            Self::ReplicatedFile(store) => store.store().ready().await,
        }
    }

    /// The reply of `/cluster`.
    pub(crate) fn status(&self, node: Option<&str>) -> Reply {
        match self {
            Self::Memory(store) => alone(node, true, Some(store.status())),
            Self::File(store) => alone(node, true, Some(store.store().status())),
            // The server's sessions are not this node's.
            Self::Redis(store) => alone(node, store.is_ready(), None),
            Self::Replicated(store) => clustered(store),
            Self::ReplicatedFile(store) => clustered(store.store()),
        }
    }

    /// Starts to drain, while requests continue.
    pub(crate) fn start_draining(&self) {
        match self {
            Self::Memory(_) | Self::File(_) | Self::Redis(_) => {}
            Self::Replicated(store) => store.start_draining(),
            Self::ReplicatedFile(store) => store.store().start_draining(),
        }
    }

    /// Transfers all sessions to the other nodes, if there are any.
    pub(crate) async fn drain(&self) {
        let store = match self {
            Self::Memory(_) | Self::File(_) | Self::Redis(_) => return,
            Self::Replicated(store) => store,
            Self::ReplicatedFile(store) => store.store(),
        };
        store.drain().await;
    }

    /// Writes the file, if one is configured. Nothing changes any more.
    pub(crate) async fn save(&self) -> Result<(), SnapshotError> {
        match self {
            Self::Memory(_) | Self::Replicated(_) | Self::Redis(_) => Ok(()),
            Self::File(store) => store.save().await.map(drop),
            Self::ReplicatedFile(store) => store.save().await.map(drop),
        }
    }
}

async fn end_user<S: SessionStore>(
    store: &S,
    user: UserKey,
    kept: Option<Root>,
) -> Result<usize, StoreError> {
    match kept {
        Some(kept) => store.end_user_except(user, kept).await,
        None => store.end_user(user).await,
    }
}

fn memory(args: &Args) -> MemoryStore {
    let mut store = MemoryStore::builder();
    if let Some(sessions) = args.max_sessions {
        store = store.max_sessions(sessions);
    }
    if let Some(bytes) = args.max_bytes {
        store = store.max_bytes(bytes);
    }
    store.build()
}

fn snapshot(args: &Args) -> Result<SnapshotStoreBuilder, String> {
    let path = args.file.as_ref().ok_or("no file is given")?;
    let snapshot = SnapshotStore::builder(path).application("playground");
    Ok(match args.file_every {
        Some(ms) => snapshot.interval(Duration::from_millis(ms)),
        None => snapshot,
    })
}

fn redis(args: &Args) -> Result<RedisStore, RedisError> {
    let url = args.redis_url.as_deref().unwrap_or_default();
    let store = RedisStore::builder(url);
    let store = match &args.prefix {
        Some(prefix) => store.prefix(prefix),
        None => store,
    };
    let store = match &args.route {
        Some(route) => store.node_name(route),
        None => store,
    };
    let store = match args.redis_timeout {
        Some(secs) => store.operation_timeout(Duration::from_secs(secs)),
        None => store,
    };
    let store = if args.near_cache {
        store.near_cache(args.max_bytes.unwrap_or(64 << 20))
    } else {
        store
    };
    store.build()
}

fn replicated(args: &Args, http_port: u16) -> Result<ReplicatedStoreBuilder, SetupError> {
    // The cluster needs a name for the node even if the cookie is to have no route.
    let name = args
        .route
        .clone()
        .unwrap_or_else(|| format!("http{http_port}"));
    let mut store = ReplicatedStore::builder(name)
        .cluster_name(args.cluster_name.as_deref().unwrap_or("playground"))
        .copies(args.copies)
        .ack(args.ack)
        .min_copies(args.min_copies)
        .expect_nodes(args.expect_nodes)
        .join_timeout(Duration::from_secs(args.join_timeout));
    if let Some(address) = &args.cluster_listen {
        store = store.bind(address);
    }
    if let Some(address) = &args.advertise {
        store = store.advertise(address);
    }
    if let Some(sessions) = args.max_sessions {
        store = store.max_sessions(sessions);
    }
    if let Some(bytes) = args.max_bytes {
        store = store.max_bytes(bytes);
    }
    for peer in args.peer.iter().chain(&args.dns) {
        store = store.peer(peer);
    }
    if let Some(group) = args.multicast {
        let multicast = Multicast::default().group(*group.ip());
        store = store.multicast(multicast.port(group.port()));
    }
    for path in &args.secret_file {
        store = store.secret(Secret::from_file(path)?);
    }
    Ok(store)
}

/// The state of a node without a cluster, in the format of a cluster's.
fn alone(node: Option<&str>, is_ready: bool, status: Option<MemoryStatus>) -> Reply {
    let number = |of: fn(MemoryStatus) -> u64| status.map_or(0, of);
    let myself = json!({
        "route": node,
        "address": Value::Null,
        "state": if is_ready { "ready" } else { "joining" },
        "age_ms": Value::Null,
        "lag": 0,
    });
    Reply::default()
        .with("clustered", false)
        .with("ready", is_ready)
        .with("members", vec![myself])
        .with("copies", 1)
        .with("sessions", number(|status| status.sessions as u64))
        .with("tombstones", 0)
        .with("bytes", number(|status| status.bytes as u64))
        .with("under_replicated", 0)
        .with("degraded_acks", 0)
        .with("refused", Vec::<Value>::new())
        .with("over_limit", false)
        .with("created", number(|status| status.created))
        .with("deleted", number(|status| status.deleted))
        .with("expired", number(|status| status.expired))
}

fn clustered(store: &ReplicatedStore) -> Reply {
    let status = store.status();
    let copies = match status.copies {
        Copies::All => json!("all"),
        Copies::Count(nodes) => json!(nodes),
    };
    let members: Vec<_> = status.members.iter().map(member).collect();
    Reply::default()
        .with("clustered", true)
        .with("ready", status.ready)
        .with("members", members)
        .with("copies", copies)
        .with("sessions", status.sessions)
        .with("tombstones", status.tombstones)
        .with("bytes", status.bytes)
        .with("under_replicated", status.under_replicated)
        .with("degraded_acks", status.degraded_acks)
        .with("complete", status.complete)
        .with("stable", status.stable)
        .with("indeterminate", status.indeterminate)
        .with("discarded_writes", status.discarded_writes)
        .with("rejected_connections", status.rejected_connections)
        .with(
            "refused",
            status.refused.iter().map(refused).collect::<Vec<_>>(),
        )
        .with("over_limit", status.over_limit)
        .with("created", status.created)
        .with("deleted", status.deleted)
        .with("expired", status.expired)
}

fn refused(node: &RefusedNode) -> Value {
    json!({ "address": node.address, "reason": node.reason })
}

fn member(member: &Member) -> Value {
    let state = match member.state {
        MemberState::Joining => "joining",
        MemberState::Ready => "ready",
        MemberState::Leaving => "leaving",
        _ => "unknown",
    };
    json!({
        "route": member.route,
        "address": member.address.to_string(),
        "state": state,
        "age_ms": member.age.as_millis() as u64,
        "lag": member.lag,
    })
}
