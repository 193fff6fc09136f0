//! Routing of requests to servers, with retries.
//!
//! A request is sent until it is answered or its deadline has passed: connections may break,
//! servers may be failing over, slots may move. Every request can be repeated, because each write
//! carries a mark by which the server recognizes repeated attempts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::store::redis::attempts::{AttemptState, RequestError};
use crate::store::redis::backoff::Backoff;
use crate::store::redis::config::{PONG_WITHIN, READY_GRACE, RedisConfig};
use crate::store::redis::connection;
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::near_cache::{CacheSource, NearCache};
use crate::store::redis::presence::Presence;
use crate::store::redis::request::SessionRequest;
use crate::store::redis::server::RedisServer;
use crate::store::redis::server_options::ServerOptions;
use crate::store::redis::topology::Topology;
use crate::store::redis::url::Address;
use crate::sync::lock;

/// The connections to all servers.
#[derive(Debug)]
pub(super) struct Router {
    config: Arc<RedisConfig>,
    pub(super) topology: Arc<Topology>,
    servers: Mutex<HashMap<(Address, Purpose), Arc<RedisServer>>>,
    permits: Semaphore,
    retries: AtomicU32,
    near_cache: Option<Arc<NearCache>>,
    presence: Arc<Presence>,
    /// Locked while a task connects to the servers.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

/// The answer of a server.
#[derive(Debug)]
pub(super) struct ServerReply {
    pub(super) replies: Vec<Value>,
    /// The connection that it came over, if the server sends invalidations on it.
    pub(super) source: Option<CacheSource>,
}

/// What a connection is used for. `WAIT` for replicas blocks all later requests on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    Default,
    WaitReplicas,
}

impl Router {
    pub(super) fn new(config: Arc<RedisConfig>, near_cache: Option<Arc<NearCache>>) -> Self {
        Self {
            topology: Arc::new(Topology::new(&config, near_cache.as_ref())),
            near_cache,
            servers: Mutex::default(),
            permits: Semaphore::new(config.max_in_flight),
            retries: AtomicU32::new(0),
            presence: Presence::new(),
            connecting: Arc::default(),
            config,
        }
    }

    /// Sends the request until there is an answer, or the deadline has passed.
    pub(super) async fn execute(
        &self,
        request: &SessionRequest,
    ) -> Result<ServerReply, RequestError> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let permit = match self.permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => timeout_at(deadline, self.permits.acquire())
                .await
                .map(Result::ok)
                .ok()
                .flatten(),
        };
        let Some(_permit) = permit else {
            let message = format!("more than {}", self.config.max_in_flight);
            return Err(RequestError {
                error: RedisError::new(RedisErrorKind::Overloaded, message),
                uncertain: false,
            });
        };
        let mut state = AttemptState::default();
        match timeout_at(deadline, self.retry_loop(request, &mut state, deadline)).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(error)) => Err(state.into_request_error(error)),
            Err(_) => {
                // The last refusal names a cause that can be fixed.
                let late = || RedisError::new(RedisErrorKind::TimedOut, "");
                let error = state.last_error.take().unwrap_or_else(late);
                Err(state.into_request_error(error))
            }
        }
    }

    /// Returns the servers that own slots, in a fixed order, and a hash of what each of them owns.
    pub(super) async fn layout(&self) -> Result<(Vec<Address>, u64), RedisError> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let mut primaries = self.topology.primaries(deadline).await?;
        primaries.sort_unstable();
        Ok((primaries, self.topology.layout()))
    }

    /// Sends commands that only read to one server, once.
    pub(super) async fn execute_at(
        &self,
        address: &Address,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let _permit = timeout_at(deadline, self.permits.acquire())
            .await
            .map_err(|_| RedisError::new(RedisErrorKind::TimedOut, ""))?;
        let server = self.server(address.clone(), Purpose::Default);
        let connection = server.connection(deadline).await?;
        let replies = connection
            .send_within(commands, self.config.attempt(), Some(deadline))
            .await
            .map_err(CommandFailure::into_error)?;
        for (reply, command) in replies.iter().zip(commands.cmd_iter()) {
            if let Value::ServerError(error) = reply {
                return Err(
                    CommandFailure::of_reply(error, &connection::name(command)).into_error()
                );
            }
        }
        // A server that is no longer a primary may lack what was written since.
        if connection.is_retired() {
            let message = "the server has become a replica";
            return Err(RedisError::new(RedisErrorKind::ReadOnly, message));
        }
        Ok(replies)
    }

    /// Waits until requests can be sent.
    pub(super) async fn connected(&self) -> Result<(), RedisError> {
        let deadline = Instant::now() + self.config.operation_timeout.max(CONNECTED_WITHIN);
        for address in self.topology.primaries(deadline).await? {
            self.server(address, Purpose::Default)
                .connection(deadline)
                .await?;
        }
        Ok(())
    }

    /// Returns `true` unless no server could be used for [`READY_GRACE`].
    pub(super) fn is_ready(&self) -> bool {
        self.presence.absent_for() < READY_GRACE
    }

    /// Returns a guard if no server is connected, and no other caller is connecting.
    pub(super) fn start_connecting(&self) -> Option<OwnedMutexGuard<()>> {
        let connecting = (!self.presence.is_up()).then(|| self.connecting.clone());
        connecting?.try_lock_owned().ok()
    }

    /// Connects to the current servers: without operations nothing else does.
    pub(super) async fn connect_all(&self, _connecting: OwnedMutexGuard<()>) {
        if let Err(error) = self.connected().await {
            tracing::debug!(cause = %error.flattened(), "no server is connected yet");
        }
    }

    async fn retry_loop(
        &self,
        request: &SessionRequest,
        state: &mut AttemptState,
        deadline: Instant,
    ) -> Result<ServerReply, RedisError> {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt_once(request, state, deadline).await {
                Ok(replies) => return Ok(replies),
                Err(CommandFailure::Moved(node)) => {
                    state.redirects += 1;
                    if let Some(from) = state.last_server.take() {
                        self.topology.moved(&request.key, &node, &from);
                    }
                }
                Err(CommandFailure::Ask(node)) => {
                    state.redirects += 1;
                    let from = state.last_server.take();
                    state.redirect = from.and_then(|from| self.topology.redirect(&node, &from));
                }
                Err(CommandFailure::NoScript) if !state.options.send_source => {
                    state.options.send_source = true
                }
                Err(CommandFailure::NoScript) => {
                    let message = "the server rejects a script that was sent with the request";
                    return Err(RedisError::new(RedisErrorKind::Unexpected, message));
                }
                Err(
                    CommandFailure::Demoted(error)
                    | CommandFailure::Later(error)
                    | CommandFailure::Broken(error),
                ) => {
                    self.topology.mark_stale();
                    self.back_off(request, &mut backoff, error, state, deadline)
                        .await?;
                }
                Err(CommandFailure::Final(error)) => return Err(error),
            }
            if state.redirects > REDIRECTS_MAX {
                state.redirects = 0;
                let message = "the servers of the cluster redirect in a circle";
                let error = RedisError::new(RedisErrorKind::ClusterDown, message);
                self.back_off(request, &mut backoff, error, state, deadline)
                    .await?;
            }
        }
    }

    /// Pauses before the next attempt; fails with `error` if no time is left for its answer. A
    /// write that was refused each time has not happened: one more attempt that is cut off would
    /// make that uncertain.
    async fn back_off(
        &self,
        request: &SessionRequest,
        backoff: &mut Backoff,
        error: RedisError,
        state: &mut AttemptState,
        deadline: Instant,
    ) -> Result<(), RedisError> {
        let until = Instant::now() + backoff.next(self.retries.fetch_add(1, Relaxed));
        let waits = request
            .replicas()
            .map_or(Duration::ZERO, |replicas| replicas.within);
        if until + self.config.last_attempt() + waits > deadline {
            return Err(error);
        }
        state.last_error = Some(error);
        sleep_until(until).await;
        Ok(())
    }

    async fn attempt_once(
        &self,
        request: &SessionRequest,
        state: &mut AttemptState,
        deadline: Instant,
    ) -> Result<ServerReply, CommandFailure> {
        // An `ASK` is for one attempt: the slot still belongs to the server that has sent it.
        let redirect = state.redirect.take();
        state.options.asking = redirect.is_some();
        let address = match redirect {
            Some(address) => address,
            None => {
                let owner = self.topology.owner(&request.key, deadline).await;
                owner.map_err(CommandFailure::Later)?
            }
        };
        let purpose = match request.replicas() {
            Some(_) => Purpose::WaitReplicas,
            None => Purpose::Default,
        };
        state.last_server = Some(address.clone());
        let server = self.server(address, purpose);
        let connection = match server.current() {
            Some(connection) => connection,
            None => {
                let connected = server.connection(deadline).await;
                connected.map_err(|error| self.not_connected(error, &server))?
            }
        };
        let patience = match request.replicas() {
            // No data moves while the server executes a `WAIT`, this request's or the one before
            // it: that is no reason to give up the connection.
            Some(replicas) => self.config.attempt().max(replicas.within * 2),
            None => self.config.attempt(),
        };
        let application = if request.is_index {
            None
        } else {
            self.config.application.as_deref()
        };
        let application = application.unwrap_or_default();
        let pipeline = request.pipeline(state.options, &connection, application);
        let before = state.options.retry;
        // Before the request is sent: at the deadline this future is dropped, with the write under
        // way.
        state.options.retry |= request.writes();
        // Before the request is sent as well: a flush or a move while the answer is on its way must
        // end the copy.
        let source = connection.source();
        let latest = Some(deadline - GIVE_UP_BEFORE);
        let replies = match connection.send_within(&pipeline, patience, latest).await {
            Ok(replies) => replies,
            Err(failure) => {
                // Without an answer the write may have taken effect, at once or when a suspended
                // server resumes.
                if !matches!(failure, CommandFailure::Broken(_)) {
                    state.options.retry = before;
                }
                return Err(failure);
            }
        };
        // With an answer this attempt leaves nothing unknown; an earlier one may have.
        let failure = request.failure(state.options, &replies);
        state.options.retry = before;
        match failure {
            Some(failure) => {
                if matches!(failure, CommandFailure::Demoted(_)) {
                    connection.start_draining();
                }
                Err(failure)
            }
            // The answer to a read may be from after the demotion, and lack a logout at the new
            // primary. A replica refuses writes, so one that succeeded was in time.
            None if connection.is_retired() && !request.writes() => {
                let message = "the server has become a replica";
                let error = RedisError::new(RedisErrorKind::ReadOnly, message);
                Err(CommandFailure::Demoted(error))
            }
            None => Ok(ServerReply { replies, source }),
        }
    }

    /// Decides whether the request waits for a server that cannot be connected.
    fn not_connected(&self, error: RedisError, server: &RedisServer) -> CommandFailure {
        let kind = error.kind();
        // An administrator has to change something first.
        let is_refused = matches!(
            kind,
            RedisErrorKind::Unauthenticated | RedisErrorKind::Denied
        );
        // A server that was demoted may be about to be promoted again.
        let is_final = kind != RedisErrorKind::ReadOnly && !server.has_ended();
        let is_only_one = self.topology.is_fixed() && is_final;
        // It has had no replacement for a whole timeout: other operations need the permit.
        let is_late = server.down_for() >= self.config.operation_timeout;
        if is_refused || is_only_one || is_late {
            CommandFailure::Final(error)
        } else {
            CommandFailure::Later(error)
        }
    }

    fn server(&self, address: Address, purpose: Purpose) -> Arc<RedisServer> {
        let mut servers = lock(&self.servers);
        let key = (address, purpose);
        if servers.get(&key).is_none_or(|server| server.has_ended()) {
            // Each server is kept connected as long as it is in the table: those that have left a
            // cluster would be dialed forever. Those of another runtime that has ended start again.
            servers
                .retain(|(known, _), server| self.topology.contains(known) && !server.has_ended());
        }
        let server = servers.entry(key).or_insert_with_key(|(address, _)| {
            let near_cache = self
                .near_cache
                .clone()
                .filter(|_| purpose == Purpose::Default);
            // `WAIT` keeps the connection silent.
            let waits = self
                .config
                .replicas
                .filter(|_| purpose == Purpose::WaitReplicas);
            let patience = PONG_WITHIN + waits.map_or(Duration::ZERO, |wait| wait.within);
            let presence = (purpose == Purpose::Default).then(|| self.presence.clone());
            let options = ServerOptions {
                config: self.config.clone(),
                topology: self.topology.clone(),
                near_cache,
                patience,
                presence,
            };
            Arc::new(RedisServer::start(address.clone(), options))
        });
        server.clone()
    }
}

/// Redirects in immediate succession: beyond that, nodes disagree about the owner of a slot.
const REDIRECTS_MAX: usize = 4;

/// How long before its deadline the last attempt ends, so that it can close a connection of no use.
/// At the deadline the attempt is dropped. At least the resolution of a timer.
const GIVE_UP_BEFORE: Duration = Duration::from_millis(2);

/// The time for connecting when an application starts.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
