//! Digests of entries: hashes by which holders find out what they have in different versions.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::session::{Record, Root, Version};

use crate::cluster::replica::entry::Entry;

impl Entry {
    /// Returns the entry's contribution to the digest of its slot.
    pub(crate) fn digest(&self, key: &Root) -> u64 {
        // Copies that differ only in their accesses have to be compared: after a partition, a
        // holder with the earlier one would end a session that was in use on the other side.
        let access = access_digest(key, self.access());
        self.version(key).wrapping_add(access)
    }

    /// Returns a hash of everything that holders must agree on, except accesses.
    pub(crate) fn version(&self, key: &Root) -> u64 {
        let mut hasher = VersionHasher::new(key);
        match self {
            Self::Live(record) => {
                hasher.add(LIVE, record.lifetime.idle_timeout.0);
                hasher.add(CREDENTIAL, record.credential.version());
                for register in record.entries() {
                    hasher.add(register.name.as_bytes(), register.version);
                }
                // By these the next owner recognizes an update that is repeated, and does not apply
                // it twice.
                for version in record.updates() {
                    hasher.add(UPDATE, *version);
                }
            }
            Self::Delta(delta) => {
                hasher.add(DELTA, Version::default());
                for register in &delta.entries {
                    hasher.add(register.name.as_bytes(), register.version);
                }
                if let Some(credential) = &delta.credential {
                    hasher.add(CREDENTIAL, credential.version());
                }
            }
            Self::Expired(mark) => {
                hasher.add(EXPIRED, mark.idle_timeout.0);
                hasher.add(CREDENTIAL, mark.credential.version());
            }
            // `until` is left out: it is a time of each node's own clock, and slots with tombstones
            // would differ in every comparison.
            Self::Tombstone { .. } => hasher.add(DEAD, Version::default()),
        }
        hasher.0
    }
}

/// Returns a hash of the names and versions of the attributes at or below a floor.
pub(crate) fn content_below(floor: Version, key: &Root, record: &Record) -> u64 {
    let mut content = VersionHasher::new(key);
    for register in record.entries().iter().filter(|r| r.version <= floor) {
        content.add(register.name.as_bytes(), register.version);
    }
    content.0
}

/// Returns the contribution of an access version to the digest of a slot.
pub(crate) fn access_digest(key: &Root, access: u64) -> u64 {
    match access {
        0 => 0,
        access => xxh3_64_with_seed(&key.to_bytes(), access),
    }
}

/// A hash that is independent of order: the sum of the hashes of its parts.
struct VersionHasher(u64);

impl VersionHasher {
    fn new(key: &Root) -> Self {
        Self(xxh3_64_with_seed(&key.to_bytes(), 0))
    }

    fn add(&mut self, what: &[u8], version: Version) {
        let seed = version.clock.rotate_left(17) ^ u64::from(version.writer);
        self.0 = self.0.wrapping_add(xxh3_64_with_seed(what, seed));
    }
}

const LIVE: &[u8] = b"\0live";

const DELTA: &[u8] = b"\0fragment";

const EXPIRED: &[u8] = b"\0expired";

const DEAD: &[u8] = b"\0dead";

const CREDENTIAL: &[u8] = b"\0credential";

const UPDATE: &[u8] = b"\0update";
