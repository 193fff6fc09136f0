use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash, Timestamp};
use distributable::{Root, SessionStore, StoreError};
use rusqlite::TransactionBehavior::{self, Deferred, Immediate};
use rusqlite::{Connection, Transaction};
use tokio::task::spawn_blocking;

#[derive(Clone)]
pub struct SqlStore(Arc<Mutex<Connection>>);

type Row = Option<Arc<Record>>;

impl SqlStore {
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        let sql = Connection::open(file)?;
        sql.busy_timeout(Duration::from_secs(10))?;
        sql.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS session
                 (key BLOB PRIMARY KEY, record BLOB NOT NULL, expires INTEGER NOT NULL);
             CREATE INDEX IF NOT EXISTS session_by_expiry ON session (expires);",
        )?;
        Ok(Self(Arc::new(Mutex::new(sql))))
    }

    /// Deletes rows of sessions that have expired and are not returned any more. Call it every
    /// minute.
    pub fn sweep(&self) -> rusqlite::Result<usize> {
        let sql = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sql.execute(
            "DELETE FROM session WHERE expires <= unixepoch('subsec') * 1000",
            [],
        )
    }

    /// Reads a row, has `work` change it, and writes it, in one transaction.
    async fn row<T: Send + 'static>(
        &self,
        lock: TransactionBehavior,
        key: &Root,
        work: impl FnOnce(&mut Row) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (connection, key) = (self.0.clone(), key.to_bytes());
        let transaction = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let sql = connection
                .transaction_with_behavior(lock)
                .map_err(StoreError::unavailable)?;
            let (now, before) = read(&sql, &key)?;
            let mut row = before.clone();
            let result = work(&mut row);
            if row != before {
                write(&sql, &key, now, row.as_deref()).map_err(StoreError::unavailable)?;
            }
            // A failure here does not tell whether the changes are stored.
            sql.commit().map_err(StoreError::indeterminate)?;
            Ok(result)
        };
        spawn_blocking(transaction)
            .await
            .map_err(StoreError::indeterminate)?
    }
}

impl SessionStore for SqlStore {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let secret = secret.copied();
        let load = move |row: &mut Row| match row {
            Some(record) => record.loaded(secret.as_ref(), Timestamp::now()),
            None => Loaded::Absent,
        };
        self.row(Deferred, key, load).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let base = base.cloned();
        let commit = move |row: &mut Row| {
            let outcome = changes.apply(row.as_ref(), base.as_deref(), Timestamp::now());
            if let Outcome::Committed(record) = &outcome {
                *row = Some(record.clone());
            }
            outcome
        };
        self.row(Immediate, key, commit).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        let touch = |row: &mut Row| match row {
            Some(record) if record.is_live(Timestamp::now()) => {
                Arc::make_mut(record).touch(Timestamp::now());
            }
            _ => {}
        };
        self.row(Immediate, key, touch).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        if key.is_index() {
            // The list of a user's sessions is no session.
            return Ok(false);
        }
        let end = |row: &mut Row| {
            row.take()
                .is_some_and(|record| record.is_live(Timestamp::now()))
        };
        self.row(Immediate, key, end).await
    }
}

/// The time of the database, which all nodes share, and the session. In PostgreSQL and MySQL with
/// `FOR UPDATE`: it locks the row.
fn read(sql: &Transaction<'_>, key: &[u8]) -> Result<(Timestamp, Row), StoreError> {
    let select = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER),
                         (SELECT record FROM session WHERE key = ?1)";
    let found = sql.query_row(select, [key], |row| Ok((row.get(0)?, row.get(1)?)));
    let (now, bytes): (i64, Option<Vec<u8>>) = found.map_err(StoreError::unavailable)?;
    let now = Timestamp::from_millis(now.unsigned_abs());
    let record = bytes
        .map(|bytes| Record::from_bytes(&bytes, now))
        .transpose()?;
    Ok((now, record.map(Arc::new)))
}

fn write(
    sql: &Transaction<'_>,
    key: &[u8],
    now: Timestamp,
    record: Option<&Record>,
) -> rusqlite::Result<usize> {
    let Some(record) = record else {
        return sql.execute("DELETE FROM session WHERE key = ?1", [key]);
    };
    let rest = record.expires_at().since(Timestamp::now());
    let expires = i64::try_from(now.plus(rest).as_millis()).unwrap_or(i64::MAX);
    sql.execute(
        "INSERT OR REPLACE INTO session (key, record, expires) VALUES (?1, ?2, ?3)",
        (key, record.to_bytes(now), expires),
    )
}
