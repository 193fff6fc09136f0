//! Sessions as bytes, for stores that keep them outside of this process.
//!
//! A database or a file that several nodes use has a clock of its own, and the clocks of the nodes
//! differ from it. The bytes therefore have all times on the clock of the store, and each node
//! converts them when it reads and writes. The format has a version: later versions of this crate
//! read what earlier ones have written.

use std::time::Duration;

use crate::clock;
use crate::error::StoreError;
use crate::session::{
    AttributeEntry, Credential, Details, HISTORY_MAX, Idle, Lifetime, Name, Record, SecretHash,
    Timestamp, UPDATES_MAX, UserKey, Value, Version,
};

impl Record {
    /// Encodes the session for a store outside of this process. `now` is the current time by the
    /// clock of the store, such as that of its database; [`Timestamp::now`] if only this process
    /// uses the bytes.
    ///
    /// ```
    /// # #[cfg(all(feature = "memory", feature = "testing"))]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// use std::time::SystemTime;
    ///
    /// use distributable::session::{Record, Timestamp};
    /// # use distributable::{MemoryStore, SessionStore, testing::TestSession};
    /// # let store = MemoryStore::new();
    /// # let key = TestSession::new().with("n", &7).create(&store).await?.key();
    /// # let session = store.peek(&key).await?.unwrap();
    ///
    /// // The clock that all nodes ask.
    /// let database_time = || {
    ///     let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    ///     Timestamp::default().plus(since_epoch)
    /// };
    /// let bytes = session.to_bytes(database_time());
    /// let again = Record::from_bytes(&bytes, database_time())?;
    /// assert_eq!(again.get("n"), session.get("n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_bytes(&self, now: Timestamp) -> Vec<u8> {
        let mut out = RecordWriter {
            bytes: Vec::with_capacity(self.footprint()),
            clocks: Clocks::new(clock::now(), now),
        };
        out.byte(FORMAT);
        out.version(self.latest());
        out.credential(&self.credential);
        let lifetime = &self.lifetime;
        out.time(lifetime.created_at);
        out.time(lifetime.accessed_at);
        out.number(lifetime.access);
        out.version(lifetime.idle_timeout.0);
        out.idle(lifetime.idle_timeout.1);
        out.idle(lifetime.initial_idle_timeout);
        out.byte(lifetime.returned.into());
        out.number(self.entries().len() as u64);
        for entry in self.entries() {
            out.slice(entry.name.as_bytes());
            out.version(entry.version);
            out.option(entry.value.as_ref(), |out, value| {
                out.slice(value.as_bytes());
            });
        }
        out.versions(self.updates());
        out.bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) has encoded, on this node or another one. `now` is
    /// the current time by the same clock.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::StoreErrorKind::Corrupt) for other bytes, and for those of a newer
    /// version of this crate whose format this one does not know.
    pub fn from_bytes(bytes: &[u8], now: Timestamp) -> Result<Self, StoreError> {
        let clocks = Clocks::new(now, clock::now());
        let mut input = RecordReader { bytes, clocks };
        match input.byte() {
            Some(FORMAT) => input.record().filter(|_| input.bytes.is_empty()),
            Some(format) if format > FORMAT => {
                return Err(StoreError::corrupt(
                    "it was written by a newer version of the crate",
                ));
            }
            _ => None,
        }
        .ok_or_else(|| StoreError::corrupt("the bytes are not those of a session"))
    }
}

/// One moment on two clocks.
#[derive(Clone, Copy)]
struct Clocks {
    from: Timestamp,
    to: Timestamp,
}

impl Clocks {
    const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to }
    }

    fn convert(self, at: Timestamp) -> Timestamp {
        match at {
            Timestamp::NEVER => at,
            _ if at >= self.from => self.to.plus(at.since(self.from)),
            _ => self.to.minus(self.from.since(at)),
        }
    }
}

struct RecordWriter {
    bytes: Vec<u8>,
    clocks: Clocks,
}

impl RecordWriter {
    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn slice(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn time(&mut self, at: Timestamp) {
        self.number(self.clocks.convert(at).as_millis());
    }

    fn version(&mut self, version: Version) {
        self.number(version.clock);
        self.bytes.extend_from_slice(&version.writer.to_le_bytes());
    }

    fn versions(&mut self, versions: &[Version]) {
        self.number(versions.len() as u64);
        for version in versions {
            self.version(*version);
        }
    }

    fn idle(&mut self, idle: Idle) {
        let nanos = |idle: Duration| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        self.option(idle.get(), |out, idle| out.number(nanos(idle)));
    }

    fn option<T>(&mut self, item: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(item.is_some().into());
        if let Some(item) = item {
            write(self, item);
        }
    }

    fn credential(&mut self, credential: &Credential) {
        let details = credential.details();
        self.bytes.extend_from_slice(&credential.hash.to_bytes());
        self.time(credential.absolute_deadline);
        self.version(details.version);
        self.option(details.rotated_at, Self::time);
        self.option(details.user, |out, user| {
            out.bytes.extend_from_slice(&user.to_bytes());
        });
        self.option(details.began_at, Self::time);
        self.versions(&details.history);
    }
}

/// The bytes that are left to read; `None` after bytes that `RecordWriter` does not write.
struct RecordReader<'a> {
    bytes: &'a [u8],
    clocks: Clocks,
}

impl<'a> RecordReader<'a> {
    fn record(&mut self) -> Option<Record> {
        let latest = self.version()?;
        let credential = self.credential()?;
        let lifetime = Lifetime {
            created_at: self.time()?,
            accessed_at: self.time()?,
            access: self.number()?,
            idle_timeout: (self.version()?, self.idle()?),
            initial_idle_timeout: self.idle()?,
            returned: self.flag()?,
        };
        let entries = self.many(usize::MAX, |input| {
            Some(AttributeEntry {
                name: Name::from(str::from_utf8(input.slice()?).ok()?),
                version: input.version()?,
                value: input.option(|input| Some(Value::from_bytes(input.slice()?)))?,
            })
        })?;
        let updates = self.many(UPDATES_MAX, Self::version)?;
        let mut record = Record::from_parts(credential, lifetime, entries, updates)?;
        record.note_latest(latest);
        Some(record)
    }

    fn credential(&mut self) -> Option<Credential> {
        let hash = SecretHash::from_bytes(self.array()?);
        let absolute_deadline = self.time()?;
        let details = Details {
            version: self.version()?,
            rotated_at: self.option(Self::time)?,
            user: self.option(|input| Some(UserKey::from_bytes(input.array()?)))?,
            began_at: self.option(Self::time)?,
            history: self.many(HISTORY_MAX, Self::version)?,
        };
        Some(Credential::from_parts(hash, absolute_deadline, details))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (slice, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(slice)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let at = Timestamp::from_millis(self.number()?);
        Some(self.clocks.convert(at))
    }

    fn version(&mut self) -> Option<Version> {
        let clock = self.number()?;
        let writer = self.array().map(u32::from_le_bytes)?;
        Some(Version { clock, writer }).filter(Version::is_valid)
    }

    fn idle(&mut self) -> Option<Idle> {
        let nanos = self.option(Self::number)?;
        Some(nanos.map(Duration::from_nanos).into())
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }

    /// Reads as many items as a number says. Every item takes bytes, so that a false number ends
    /// with the input.
    fn many<T>(
        &mut self,
        max: usize,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        if count > max {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }
}

/// The version of the format, the first byte.
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests;
