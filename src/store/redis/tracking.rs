//! Connections on which the server tells what changes, and whether it really does.
//!
//! Servers differ: some do not track, some say that they do and do not. So every connection that is
//! to carry the truth about copies is tried first, with a key of our own that somebody else writes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::aio::{AsyncPushSender, SendError};
use redis::{Pipeline, PushInfo, PushKind, Value};
use tokio::task::JoinHandle;

use super::address::Address;
use super::error::{Failure, RedisError, RedisErrorKind};
use super::link::{self, Link};
use super::near::{Health, Near};
use super::settings::Settings;

/// Hears what the server says without being asked, in the order in which it is said.
pub(super) struct Listener {
    pub(super) near: Arc<Near>,
    pub(super) health: Arc<Health>,
}

impl AsyncPushSender for Listener {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match push.kind {
            PushKind::Disconnection => self.health.set_tracked(false),
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(key) = key {
                            self.near.invalidate(&self.health, Some(key));
                        }
                    }
                }
                _ => self.near.invalidate(&self.health, None),
            },
            _ => {}
        }
        Ok(())
    }
}

/// Opens a connection; with `near`, one on which the server tells what changes, if it can.
pub(super) async fn open(
    address: &Address,
    settings: &Settings,
    near: Option<&Arc<Near>>,
) -> Result<(Link, JoinHandle<()>), RedisError> {
    let Some(near) = near else {
        return Link::open(address, settings, None).await;
    };
    let health = near.new_health();
    let tracked = Some((near.clone(), health.clone()));
    let (link, driver) = match Link::open(address, settings, tracked).await {
        Err(error) if error.kind() == RedisErrorKind::Config => {
            tracing::warn!(%address, %error, "no near-cache");
            return Link::open(address, settings, None).await;
        }
        opened => opened?,
    };
    match is_told(&link, &health, address, settings, near).await {
        Ok(true) => {
            near.heard(&health);
            health.set_tracked(true);
            return Ok((link, driver));
        }
        Ok(false) => {}
        Err(error) => tracing::debug!(%address, %error, "tracking cannot be tried"),
    }
    tracing::warn!(
        %address,
        "no near-cache: this server does not tell when a session changes (CLIENT TRACKING)"
    );
    Ok((link, driver))
}

/// Whether the server tells this connection that a key has changed that it has read.
async fn is_told(
    link: &Link,
    health: &Health,
    address: &Address,
    settings: &Settings,
    near: &Near,
) -> Result<bool, RedisError> {
    let mut tracking = redis::pipe();
    tracking.cmd("CLIENT").arg("TRACKING").arg("ON");
    if link.send(&tracking).await.is_err() {
        return Ok(false);
    }
    // In a cluster, a key that this server owns has to be found.
    for number in 0..PROBES_MAX {
        let key = near.prefix.probe(&format!("{number}"));
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(&key);
        match link.send(&read).await {
            Ok(_) => {}
            Err(Failure::Moved(_) | Failure::Ask(_)) => continue,
            Err(_) => return Ok(false),
        }
        health.probed.store(false, Relaxed);
        let info = link::info(&settings.url.credentials, settings.url.database, false);
        let (mut other, driver) = link::connect(address, settings, &info, None).await?;
        let write = writing(&key);
        let written = other.send_packed_commands(&write, 0, write.len()).await;
        driver.abort();
        let refused = |reply: &Value| matches!(reply, Value::ServerError(_));
        if written.is_ok_and(|replies| !replies.iter().any(refused)) {
            // The answer comes behind everything that was said before it.
            let mut ping: Pipeline = redis::pipe();
            ping.cmd("PING");
            return Ok(link.send(&ping).await.is_ok() && health.probed.load(Relaxed));
        }
        return Ok(false);
    }
    Ok(false)
}

/// Makes a key that is gone by itself.
fn writing(key: &[u8]) -> Pipeline {
    const SCRIPT: &str =
        "redis.call('HSET', KEYS[1], '', 'x') redis.call('PEXPIRE', KEYS[1], 1000)";
    let mut pipeline = redis::pipe();
    pipeline.cmd("EVAL").arg(SCRIPT).arg(1).arg(key);
    pipeline
}

/// Each server of a cluster of a hundred owns one of so many keys, almost certainly.
const PROBES_MAX: usize = 1_000;
