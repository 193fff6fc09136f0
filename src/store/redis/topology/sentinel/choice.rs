//! The choice of a master among the current answers of the sentinels.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::store::redis::config::Settings;
use crate::store::redis::connection::{self, Connected, NotOpened};
use crate::store::redis::error::Failure;
use crate::store::redis::outage::{Outage, Report};
use crate::store::redis::role::RoleCommand;
use crate::store::redis::topology::sentinel::host_names::HostNames;
use crate::store::redis::topology::sentinel::{ANSWER_WITHIN, AbortOnDrop, Shared};
use crate::store::redis::url::Address;

/// Chooses a master whenever the answers change, and once a second while they name another one.
pub(super) async fn keep_choosing(shared: Arc<Shared>, mut end: watch::Receiver<()>) {
    let mut names = HostNames::default();
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
    names: &mut HostNames,
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
    let info = connection::info(&settings.url.credentials, settings.url.database, false);
    let Connected {
        mut connection,
        driver,
        ..
    } = connection::connect(address, settings, &info, None).await?;
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

/// The interval at which the servers are asked for their roles while the sentinels differ.
const CHOOSE_EVERY: Duration = Duration::from_secs(1);
/// Shorter outages of all sentinels are not logged when they end.
const SILENCE_MIN: Duration = Duration::from_secs(2);
