//! The choice of a primary among the current answers of the sentinels.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::store::redis::config::RedisConfig;
use crate::store::redis::connect::{self, GreetedConnection, OpenError};
use crate::store::redis::error::CommandFailure;
use crate::store::redis::outage::{Outage, OutageReport};
use crate::store::redis::role::RoleCommand;
use crate::store::redis::topology::sentinel::host_names::HostNames;
use crate::store::redis::topology::sentinel::{ANSWER_WITHIN, AbortOnDrop, SentinelShared};
use crate::store::redis::url::Address;

/// Chooses a primary whenever the answers change, and once a second while they name another one.
pub(super) async fn keep_choosing(shared: Arc<SentinelShared>, mut end: watch::Receiver<()>) {
    let mut names = HostNames::default();
    let mut outage = Outage::default();
    loop {
        let choosing = async {
            // The changes are read below.
            let _ = timeout(CHOOSE_EVERY, shared.changed.notified()).await;
            let answers = shared.answers().addresses();
            log(&mut outage, answers.is_empty(), &shared);
            let known = shared.primary.borrow().clone();
            if answers.iter().any(|named| Some(named) != known.as_ref()) {
                choose(&shared, known.as_ref(), answers, &mut names).await;
            } else {
                shared.answers().agree();
            }
        };
        tokio::select! {
            () = choosing => {}
            _ = end.changed() => return,
        }
    }
}

/// Logs that no sentinel can be asked, and the end of that.
fn log(outage: &mut Outage, is_silent: bool, shared: &SentinelShared) {
    let now = Instant::now();
    if !is_silent {
        if let Some(lasted) = outage.ends(now) {
            let elapsed_ms = lasted.as_millis() as u64;
            // The first answer of a store that has just started ends no outage.
            if lasted >= SILENCE_MIN {
                tracing::info!(elapsed_ms, "a sentinel names a primary again");
            }
        }
        return;
    }
    let report = outage.fails(now);
    let cause = shared.failure().map(|failure| failure.to_string());
    match report {
        Some(OutageReport::Lasts(lasted)) => {
            let elapsed_ms = lasted.as_millis() as u64;
            tracing::warn!(elapsed_ms, cause, "no sentinel names a primary");
        }
        Some(OutageReport::Begins) => tracing::warn!(cause, "no sentinel names a primary"),
        None => {}
    }
}

async fn choose(
    shared: &Arc<SentinelShared>,
    known: Option<&Address>,
    mut addresses: Vec<Address>,
    names: &mut HostNames,
) {
    addresses.extend(known.cloned());
    names.resolve(&addresses).await;
    let candidates = shared
        .answers()
        .ranking(known, |one, other| names.are_one(one, other));
    let Some(first) = candidates.first() else {
        return;
    };
    // Sentinels are updated one after the other, and one that was cut off may still name
    // the old primary: if an answer changes something, the server's role decides.
    if candidates.len() == 1 && known.is_none_or(|known| known == first) {
        shared.publish(first);
        return;
    }
    let primaries = primaries(&shared.config, &candidates).await;
    let chosen = candidates
        .iter()
        .find(|address| primaries.contains(address));
    match chosen {
        Some(address) => shared.publish(address),
        // Otherwise requests would wait for a primary until their deadline, without the reason why
        // this one cannot be used.
        None if known.is_none() => shared.publish(first),
        None => {}
    }
}

/// The servers without those that report themselves as replicas, or cannot be asked.
async fn primaries(config: &Arc<RedisConfig>, candidates: &[Address]) -> Vec<Address> {
    let mut asked = JoinSet::new();
    for address in candidates {
        let (config, address) = (config.clone(), address.clone());
        asked.spawn(async move {
            let is_primary = timeout(ANSWER_WITHIN, is_primary(&config, &address)).await;
            matches!(is_primary, Ok(Ok(true))).then_some(address)
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

async fn is_primary(config: &RedisConfig, address: &Address) -> Result<bool, OpenError> {
    let info = connect::greeting(&config.url.credentials, config.url.database, false);
    let GreetedConnection {
        mut connection,
        driver,
        ..
    } = connect::connect(address, config, &info, None).await?;
    let _driver = AbortOnDrop(driver);
    for role in [RoleCommand::Role, RoleCommand::Info] {
        let asked = connection
            .send_packed_commands(&role.pipeline(), 0, 1)
            .await;
        let replies =
            asked.map_err(|e| OpenError::Unusable(CommandFailure::of(&e).into_error()))?;
        if let Some(is_primary) = replies.first().and_then(|reply| role.is_primary(reply)) {
            return Ok(is_primary);
        }
    }
    // A server that does not report its role is trusted to be what the sentinels name.
    Ok(true)
}

/// The interval at which the servers are asked for their roles while the sentinels differ.
const CHOOSE_EVERY: Duration = Duration::from_secs(1);
/// Shorter outages of all sentinels are not logged when they end.
const SILENCE_MIN: Duration = Duration::from_secs(2);
