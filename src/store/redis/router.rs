//! Routing of requests to servers, with retries.
//!
//! A request is sent until it is answered or its deadline has passed: connections may break,
//! servers may be failing over, slots may move. Every request can be repeated, because each write
//! carries a mark by which the server recognizes repeated attempts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::address::Address;
use super::error::{Failure, RedisError, RedisErrorKind};
use super::link;
use super::locator::Locator;
use super::near::{Near, Source};
use super::node::{Node, Purpose};
use super::presence::Presence;
use super::request::{Request, Wording};
use super::settings::{PONG_WITHIN, READY_GRACE, Settings};
use crate::sync::lock;

/// The connections to all servers.
#[derive(Debug)]
pub(super) struct Router {
    settings: Arc<Settings>,
    pub(super) locator: Locator,
    nodes: Mutex<HashMap<(Address, Use), Arc<Node>>>,
    permits: Semaphore,
    retries: AtomicU32,
    near: Option<Arc<Near>>,
    presence: Arc<Presence>,
    /// Set while a task connects to the servers.
    seeking: AtomicBool,
}

/// The answer of a server.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) replies: Vec<Value>,
    /// The connection that it came over, if the server sends invalidations on it.
    pub(super) source: Option<Source>,
}

/// The purpose of a connection. `WAIT` for replicas blocks all later requests on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Use {
    Everything,
    Replicas,
}

/// The failure of a request.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) why: RedisError,
    /// A write may have taken effect.
    pub(super) uncertain: bool,
}

impl Router {
    pub(super) fn new(settings: Arc<Settings>, near: Option<Arc<Near>>) -> Self {
        Self {
            locator: Locator::new(&settings, near.as_ref()),
            near,
            nodes: Mutex::default(),
            permits: Semaphore::new(settings.max_in_flight),
            retries: AtomicU32::new(0),
            presence: Presence::new(),
            seeking: AtomicBool::new(false),
            settings,
        }
    }

    /// Sends the request until there is an answer, or the deadline has passed.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answered, Unanswered> {
        let deadline = Instant::now() + self.settings.deadline;
        let permit = match self.permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => timeout_at(deadline, self.permits.acquire())
                .await
                .map(Result::ok)
                .ok()
                .flatten(),
        };
        let Some(_permit) = permit else {
            let detail = format!("more than {}", self.settings.max_in_flight);
            return Err(Unanswered {
                why: RedisError::new(RedisErrorKind::Overloaded, detail),
                uncertain: false,
            });
        };
        let mut state = Attempts::default();
        match timeout_at(deadline, self.try_all(request, &mut state, deadline)).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(why)) => Err(state.unanswered(why)),
            Err(_) => {
                let late = || RedisError::new(RedisErrorKind::TimedOut, "");
                let why = state.last.take().unwrap_or_else(late);
                Err(state.unanswered(why))
            }
        }
    }

    /// Returns the servers that own slots, in a fixed order, and a hash of what each of them owns.
    pub(super) async fn layout(&self) -> Result<(Vec<Address>, u64), RedisError> {
        let deadline = Instant::now() + self.settings.deadline;
        let mut masters = self.locator.masters(deadline).await?;
        masters.sort_unstable();
        Ok((masters, self.locator.layout()))
    }

    /// Sends commands that only read to one server, once.
    pub(super) async fn ask_at(
        &self,
        address: &Address,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        let late = || RedisError::new(RedisErrorKind::TimedOut, "");
        let deadline = Instant::now() + self.settings.deadline;
        let permit = timeout_at(deadline, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| late())?;
        let node = self.node(address.clone(), Use::Everything);
        let link = node.link(deadline).await?;
        let replies = link
            .send_within(commands, self.settings.attempt(), Some(deadline))
            .await
            .map_err(Failure::into_error)?;
        for (reply, command) in replies.iter().zip(commands.cmd_iter()) {
            if let Value::ServerError(error) = reply {
                return Err(Failure::of_reply(error, &link::name(command)).into_error());
            }
        }
        // A server that is no master any more may lack what was written since.
        if link.is_retired() {
            let message = "it has become a replica";
            return Err(RedisError::new(RedisErrorKind::ReadOnly, message));
        }
        Ok(replies)
    }

    /// Waits until requests can be sent.
    pub(super) async fn connected(&self) -> Result<(), RedisError> {
        let deadline = Instant::now() + self.settings.deadline.max(CONNECTED_WITHIN);
        for address in self.locator.masters(deadline).await? {
            self.node(address, Use::Everything).link(deadline).await?;
        }
        Ok(())
    }

    /// Returns `true` unless no server could be used for [`READY_GRACE`].
    pub(super) fn is_ready(&self) -> bool {
        self.presence.away_for() < READY_GRACE
    }

    /// Returns `true` if no server is connected, and no other caller is connecting.
    pub(super) fn begin_to_seek(&self) -> bool {
        !self.presence.is_up() && !self.seeking.swap(true, Relaxed)
    }

    /// Connects to the current servers: without operations nothing else does.
    pub(super) async fn seek(&self) {
        if let Err(error) = self.connected().await {
            tracing::debug!(%error, "no server is connected yet");
        }
        self.seeking.store(false, Relaxed);
    }

    async fn try_all(
        &self,
        request: &Request,
        state: &mut Attempts,
        deadline: Instant,
    ) -> Result<Answered, RedisError> {
        let mut pause = Pause::default();
        loop {
            match self.try_once(request, state, deadline).await {
                Ok(replies) => return Ok(replies),
                Err(Failure::Moved(node)) => {
                    state.redirects += 1;
                    if let Some(from) = state.answered.take() {
                        self.locator.moved(&request.key, &node, &from);
                    }
                }
                Err(Failure::Ask(node)) => {
                    state.redirects += 1;
                    let from = state.answered.take();
                    state.asked = from.and_then(|from| self.locator.redirect(&node, &from));
                }
                Err(Failure::NoScript) if !state.wording.source => state.wording.source = true,
                Err(Failure::NoScript) => {
                    let detail = "it rejects a script that is sent along";
                    return Err(RedisError::new(RedisErrorKind::Unexpected, detail));
                }
                Err(Failure::Demoted(why) | Failure::Later(why) | Failure::Broken(why)) => {
                    self.locator.suspect();
                    self.rest(request, &mut pause, why, state, deadline).await?;
                }
                Err(Failure::Final(why)) => return Err(why),
            }
            if state.redirects > REDIRECTS_MAX {
                state.redirects = 0;
                let detail = "its servers redirect in a circle";
                let why = RedisError::new(RedisErrorKind::ClusterDown, detail);
                self.rest(request, &mut pause, why, state, deadline).await?;
            }
        }
    }

    /// Pauses before the next attempt; fails with `why` if no time is left for its answer. A write
    /// that was refused each time has not happened: one more attempt that is cut off would make
    /// that uncertain.
    async fn rest(
        &self,
        request: &Request,
        pause: &mut Pause,
        why: RedisError,
        state: &mut Attempts,
        deadline: Instant,
    ) -> Result<(), RedisError> {
        let until = Instant::now() + pause.next(self.retries.fetch_add(1, Relaxed));
        let waits = request
            .replicas()
            .map_or(Duration::ZERO, |replicas| replicas.within);
        if until + self.settings.last_attempt() + waits > deadline {
            return Err(why);
        }
        state.last = Some(why);
        sleep_until(until).await;
        Ok(())
    }

    async fn try_once(
        &self,
        request: &Request,
        state: &mut Attempts,
        deadline: Instant,
    ) -> Result<Answered, Failure> {
        let asked = state.asked.take();
        state.wording.asking = asked.is_some();
        let address = match asked {
            Some(address) => address,
            None => {
                let owner = self.locator.owner(&request.key, deadline).await;
                owner.map_err(Failure::Later)?
            }
        };
        let purpose = match request.replicas() {
            Some(_) => Use::Replicas,
            None => Use::Everything,
        };
        state.answered = Some(address.clone());
        let node = self.node(address, purpose);
        let link = match node.current() {
            Some(link) => link,
            None => node.link(deadline).await.map_err(|why| match why.kind() {
                // An administrator has to change something first.
                RedisErrorKind::Unauthenticated | RedisErrorKind::Denied => Failure::Final(why),
                // A server that was demoted may be about to be promoted again.
                kind if self.locator.is_fixed() && kind != RedisErrorKind::ReadOnly => {
                    Failure::Final(why)
                }
                // It has had no replacement for a whole deadline: other operations need the permit.
                _ if node.down_for() >= self.settings.deadline => Failure::Final(why),
                _ => Failure::Later(why),
            })?,
        };
        let patience = match request.replicas() {
            Some(replicas) => self.settings.attempt().max(replicas.within * 2),
            None => self.settings.attempt(),
        };
        let application = self.settings.application.as_deref();
        let application = application
            .filter(|_| !request.is_index)
            .unwrap_or_default();
        let pipeline = request.pipeline(state.wording, &link, application);
        let before = state.wording.again;
        state.wording.again |= request.writes();
        let source = link.source();
        let latest = Some(deadline - GIVE_UP_BEFORE);
        let replies = match link.send_within(&pipeline, patience, latest).await {
            Ok(replies) => replies,
            Err(failure) => {
                if !matches!(failure, Failure::Broken(_)) {
                    state.wording.again = before;
                }
                return Err(failure);
            }
        };
        let failure = request.failure(state.wording, &replies);
        state.wording.again = before;
        match failure {
            Some(failure) => {
                if matches!(failure, Failure::Demoted(_)) {
                    link.start_draining();
                }
                Err(failure)
            }
            None if link.is_retired() && !request.writes() => {
                let message = "it has become a replica";
                let why = RedisError::new(RedisErrorKind::ReadOnly, message);
                Err(Failure::Demoted(why))
            }
            None => Ok(Answered { replies, source }),
        }
    }

    fn node(&self, address: Address, purpose: Use) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        if !nodes.contains_key(&(address.clone(), purpose)) {
            nodes.retain(|(known, _), _| self.locator.knows(known));
        }
        let node = nodes
            .entry((address, purpose))
            .or_insert_with_key(|(address, _)| {
                let near = self.near.clone().filter(|_| purpose == Use::Everything);
                // `WAIT` keeps the connection silent.
                let waits = self.settings.replicas.filter(|_| purpose == Use::Replicas);
                let patience = PONG_WITHIN + waits.map_or(Duration::ZERO, |wait| wait.within);
                let presence = (purpose == Use::Everything).then(|| self.presence.clone());
                let purpose = Purpose {
                    settings: self.settings.clone(),
                    near,
                    patience,
                    presence,
                };
                Arc::new(Node::start(address.clone(), purpose))
            });
        node.clone()
    }
}

/// The results of the attempts so far.
#[derive(Debug, Default)]
struct Attempts {
    wording: Wording,
    asked: Option<Address>,
    /// The last server that was asked.
    answered: Option<Address>,
    redirects: usize,
    last: Option<RedisError>,
}

impl Attempts {
    fn unanswered(self, why: RedisError) -> Unanswered {
        let uncertain = self.wording.again;
        Unanswered { why, uncertain }
    }
}

/// Increasing pauses with jitter.
#[derive(Debug, Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self, salt: u32) -> Duration {
        let most = (PAUSE_MIN_MS << self.0).min(PAUSE_MAX_MS);
        self.0 = (self.0 + 1).min(16);
        // Knuth's multiplicative hash spreads the values of a counter.
        let spread = u64::from(salt.wrapping_mul(2_654_435_761)) * most / 2;
        Duration::from_millis(most / 2 + (spread >> 32))
    }
}

/// Redirects in immediate succession: beyond that, nodes disagree about the owner of a slot.
const REDIRECTS_MAX: usize = 4;
const PAUSE_MIN_MS: u64 = 8;
const PAUSE_MAX_MS: u64 = 128;

/// How long before its deadline the last attempt ends, so that it can close a connection of no use.
/// At the deadline the attempt is dropped. At least the resolution of a timer.
const GIVE_UP_BEFORE: Duration = Duration::from_millis(2);

/// The time for connecting when an application starts.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
