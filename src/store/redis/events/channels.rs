//! The channels of events.
//!
//! Without a cluster there is one. `PUBLISH` in a cluster reaches every server, whether or not a
//! subscriber is there; `SPUBLISH` stays in the shard, but only a server that owns the slot of the
//! channel takes it. The slots are therefore divided into [`GROUPS`] groups of adjacent ones, each
//! with a channel whose own slot is among them. While one server owns a whole group, it takes the
//! events of all its sessions; where a group is split, they are sent to all servers.
use crate::store::redis::keys::{Prefix, SLOTS, slot};

/// The names of the channels of a store.
#[derive(Debug)]
pub(super) struct Channels {
    all: String,
    /// By group; empty without a cluster.
    sharded: Vec<Sharded>,
    /// The channel on which the server reports keys that have expired.
    pub(super) expired: String,
}

/// A channel of one shard.
#[derive(Clone, Debug)]
pub(super) struct Sharded {
    pub(super) name: String,
    pub(super) slot: u16,
}

impl Channels {
    pub(super) fn new(prefix: &Prefix, database: i64, is_cluster: bool) -> Self {
        let all = prefix.channel();
        Self {
            sharded: if is_cluster {
                sharded(&all)
            } else {
                Vec::new()
            },
            expired: format!("__keyevent@{database}__:expired"),
            all,
        }
    }

    /// The channel for the events of the session under a key.
    pub(super) fn of(&self, key: &[u8]) -> &str {
        match self.sharded.get(usize::from(slot(key) / GROUP_SLOTS)) {
            Some(sharded) => &sharded.name,
            None => &self.all,
        }
    }

    /// The channel that every server takes.
    pub(super) fn all(&self) -> &str {
        &self.all
    }

    /// The channels that only the owners of their slots take.
    pub(super) fn sharded(&self) -> &[Sharded] {
        &self.sharded
    }
}

/// Finds a name for each group, by trial: some 1,600 names are tried.
fn sharded(all: &str) -> Vec<Sharded> {
    let mut found = vec![None; usize::from(GROUPS)];
    let mut missing = found.len();
    let mut number = 0u32;
    while missing > 0 {
        let tag = number.to_string();
        number += 1;
        let slot = slot(tag.as_bytes());
        let place = &mut found[usize::from(slot / GROUP_SLOTS)];
        if place.is_none() {
            let name = format!("{all}:{{{tag}}}");
            *place = Some(Sharded { name, slot });
            missing -= 1;
        }
    }
    found.into_iter().flatten().collect()
}

const GROUPS: u16 = 256;
const GROUP_SLOTS: u16 = SLOTS / GROUPS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Root;

    #[test]
    fn each_session_of_a_cluster_has_a_channel_near_its_slot() {
        let prefix = Prefix::new("shop").expect("it is plain");
        let channels = Channels::new(&prefix, 0, true);
        assert_eq!(channels.sharded().len(), 256);
        for _ in 0..1_000 {
            let key = prefix.key(&Root::generate());
            let name = channels.of(&key).to_owned();
            let sharded = channels.sharded().iter().find(|it| it.name == name);
            let own = sharded.expect("it is one of them").slot;
            assert_eq!(own / 64, slot(&key) / 64);
            let (all, tag) = name.split_once(":{").expect("it has a tag");
            assert_eq!(
                (all, slot(tag.trim_end_matches('}').as_bytes())),
                ("shop:events", own)
            );
        }
        let alone = Channels::new(&prefix, 3, false);
        assert_eq!(alone.of(b"shop:0a"), "shop:events");
        assert_eq!(alone.expired, "__keyevent@3__:expired");
    }
}
