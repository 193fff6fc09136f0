//! The task that reports expired sessions.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock;
use crate::error::StoreError;
use crate::session::{EndReason, Root};
use crate::store::redis::config::TOMBSTONE;
use crate::store::redis::events::message::reason_number;
use crate::store::redis::events::watched::KnownSession;
use crate::store::redis::request::ScriptReply;
use crate::store::redis::script::Script;
use crate::store::redis::{RedisShared, commit, record};

/// Checks the sessions whose time has come, until there are no subscribers or the store is dropped.
pub(super) async fn keep_checking(shared: Weak<RedisShared>, mut turn: OwnedMutexGuard<()>) {
    loop {
        sleep(EXPIRY_CHECK_EVERY).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if !shared.events.bus.is_wanted() {
            drop(turn);
            // A subscriber that came in between has seen that there is a task.
            let Some(again) = shared.events.again(&shared.events.checking) else {
                shared.events.watched.clear();
                return;
            };
            turn = again;
        }
        loop {
            let due = shared.events.watched.due(clock::now(), CHECKS_AT_ONCE);
            let is_last = due.len() < CHECKS_AT_ONCE;
            let mut checks = JoinSet::new();
            for (key, known) in due {
                let shared = shared.clone();
                checks.spawn(async move {
                    if let Err(error) = shared.check_expiry(&key, known).await {
                        let cause = &error as &dyn std::error::Error;
                        tracing::debug!(%key, cause, "cannot check whether a session has expired");
                    }
                });
            }
            while checks.join_next().await.is_some() {}
            if is_last {
                break;
            }
        }
    }
}

impl RedisShared {
    /// Reports that a session has expired, unless it is live or another node has reported it.
    async fn check_expiry(&self, key: &Root, known: KnownSession) -> Result<(), StoreError> {
        let reason = if known.ends_absolutely() {
            EndReason::Absolute
        } else {
            EndReason::Idle
        };
        let redis_key = self.config.prefix.key(key);
        let number = |number: u64| number.to_string().into_bytes();
        let origin = if known.is_deleted {
            // No event: the deletion has been reported.
            Vec::new()
        } else {
            self.events.origin(&redis_key)
        };
        let args = vec![
            self.mark(),
            number(CLAIM.as_millis() as u64),
            number((TOMBSTONE + CLAIM).as_millis() as u64),
            origin,
            number(reason_number(reason).into()),
            known
                .user
                .map_or_else(Vec::new, |user| user.to_bytes().to_vec()),
        ];
        let answer = self.run(key, Script::Expire, args, false).await?;
        if let ScriptReply::Whole(rest) = answer {
            let live = commit::timed(rest)
                .and_then(|(clock, header)| record::without_attributes(header, clock))
                .map_err(|error| error.into_store_error(false))?;
            self.events.note(key, &live);
        } else if !known.is_deleted {
            self.events.watched.forget(key);
        }
        Ok(())
    }
}

/// How often the task checks for sessions whose time has come.
const EXPIRY_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Sessions that are checked at the same time.
const CHECKS_AT_ONCE: usize = 32;
/// How long a claim keeps other nodes from reporting the same expiry.
const CLAIM: Duration = Duration::from_secs(60);
