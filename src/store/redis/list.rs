//! The list of sessions: `SCAN` on one primary after the other, and the headers of what it finds.
//!
//! A cursor names the primary, the server's cursor, and the hash of all primaries with their slots.
//! If that has changed, sessions may have moved to a primary that was scanned before, and the list
//! has to be started again. The same applies if another process answers for the primary, after a
//! restart or a failover: its keys are in another order. Keys that are just being moved between two
//! primaries may be missed until the move is complete.

use std::hash::{DefaultHasher, Hash, Hasher};

use redis::{Pipeline, Value as Reply};

use crate::clock;
use crate::error::StoreError;
use crate::session::{SessionCursor, SessionInfo, SessionPage};
use crate::store::redis::RedisShared;
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::info;
use crate::store::redis::operations::server_time;
use crate::store::redis::record::ServerClock;
use crate::store::redis::url::Address;

/// A position in the list.
struct ListPosition {
    /// The hash of the primaries and their slots.
    layout: u64,
    /// The number of the primary, in the order of their addresses.
    primary: usize,
    /// The server's cursor; 0: at the start.
    cursor: u64,
    /// The hash of the server's process, which alone knows what its cursor means.
    process: u64,
}

impl ListPosition {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let position = Self {
            layout: u64::from_str_radix(parts.next()?, 16).ok()?,
            primary: parts.next()?.parse().ok()?,
            cursor: parts.next()?.parse().ok()?,
            process: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        parts.next().is_none().then_some(position)
    }

    fn cursor(&self) -> Option<SessionCursor> {
        let Self {
            layout,
            primary,
            cursor,
            process,
        } = self;
        SessionCursor::parse(&format!("{layout:016x}.{primary}.{cursor}.{process:016x}"))
    }
}

impl RedisShared {
    pub(super) async fn list(
        &self,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        let failed = |error: RedisError| error.into_store_error(false);
        let (primaries, layout) = self.router.layout().await.map_err(failed)?;
        let mut position = match after {
            None => ListPosition {
                layout,
                primary: 0,
                cursor: 0,
                process: 0,
            },
            Some(cursor) => match ListPosition::parse(cursor.as_str()) {
                Some(position)
                    if position.layout == layout && position.primary < primaries.len() =>
                {
                    position
                }
                Some(_) | None => return Err(StoreError::invalid_cursor()),
            },
        };
        let limit = limit.clamp(1, SessionPage::LIMIT_MAX);
        let mut sessions = Vec::new();
        // A server looks at a number of its keys, and returns those that match: few or none, if it
        // has others as well. It may look at some more than requested, namely at all keys with one
        // place in its table. A page that is cut there would lose the rest: the cursor is past it.
        for _ in 0..SCANS_MAX {
            let primary = &primaries[position.primary];
            let scanned = self.scan(primary, position.cursor, limit - sessions.len());
            let (process, cursor, keys) = scanned.await.map_err(failed)?;
            if position.cursor != 0 && position.process != process {
                return Err(StoreError::invalid_cursor());
            }
            let found = self.headers(primary, &keys).await.map_err(failed)?;
            sessions.extend(found);
            position.cursor = cursor;
            position.process = process;
            if cursor == 0 {
                position.primary += 1;
                if position.primary == primaries.len() {
                    return Ok(SessionPage::new(sessions, None));
                }
            }
            if sessions.len() >= limit {
                break;
            }
        }
        Ok(SessionPage::new(sessions, position.cursor()))
    }

    /// About `count` keys of a primary from a cursor on, after the next cursor and the hash of the
    /// process that has answered: in one request, so both are of the same process.
    async fn scan(
        &self,
        primary: &Address,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, u64, Vec<Vec<u8>>), RedisError> {
        let mut scan = Pipeline::with_capacity(2);
        scan.cmd("INFO").arg("server");
        scan.cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(self.config.prefix.pattern())
            .arg("COUNT")
            .arg(count);
        let mut replies = self.router.execute_at(primary, &scan).await?;
        let (cursor, keys) = scanned(replies.pop())?;
        let run_id = replies.pop();
        let run_id = run_id.as_ref().and_then(|info| info::field(info, "run_id"));
        let run_id = run_id.ok_or_else(|| {
            RedisError::new(
                RedisErrorKind::Unexpected,
                "the answer to INFO has no run_id",
            )
        })?;
        let mut hasher = DefaultHasher::new();
        run_id.hash(&mut hasher);
        Ok((hasher.finish(), cursor, keys))
    }

    /// The live sessions under these keys of a primary.
    async fn headers(
        &self,
        primary: &Address,
        keys: &[Vec<u8>],
    ) -> Result<Vec<SessionInfo>, RedisError> {
        let roots: Vec<_> = keys
            .iter()
            .filter_map(|key| self.config.prefix.parse(key))
            .filter(|root| !root.is_index())
            .collect();
        if roots.is_empty() {
            return Ok(Vec::new());
        }
        let mut headers = Pipeline::with_capacity(roots.len() + 1);
        headers.cmd("TIME");
        for root in &roots {
            headers
                .cmd("HGET")
                .arg(self.config.prefix.key(root))
                .arg("");
        }
        let replies = self.router.execute_at(primary, &headers).await?;
        let here = clock::now();
        let there = server_time(replies.first())?;
        let clock = ServerClock { there, here };
        let mut sessions = Vec::with_capacity(roots.len());
        for (root, reply) in roots.into_iter().zip(replies.into_iter().skip(1)) {
            // Gone since, or no session.
            let Reply::BulkString(header) = reply else {
                continue;
            };
            let fields = vec![Reply::BulkString(Vec::new()), Reply::BulkString(header)];
            // A session in the format of another version does not end the list.
            if let Ok(Some(record)) = self.decode(&root, Reply::Array(fields), clock)
                && record.is_live(here)
            {
                sessions.push(SessionInfo::new(root, &record, None));
            }
        }
        Ok(sessions)
    }
}

/// The server's next cursor, and the keys, in the answer to `SCAN`.
fn scanned(reply: Option<Reply>) -> Result<(u64, Vec<Vec<u8>>), RedisError> {
    let unexpected = || RedisError::new(RedisErrorKind::Unexpected, "the answer to SCAN");
    let Some(Reply::Array(parts)) = reply else {
        return Err(unexpected());
    };
    let Ok([Reply::BulkString(cursor), Reply::Array(found)]) = <[Reply; 2]>::try_from(parts) else {
        return Err(unexpected());
    };
    let cursor = str::from_utf8(&cursor).ok().and_then(|it| it.parse().ok());
    let keys = found.into_iter().map(|key| match key {
        Reply::BulkString(key) => Ok(key),
        _ => Err(unexpected()),
    });
    Ok((
        cursor.ok_or_else(unexpected)?,
        keys.collect::<Result<_, _>>()?,
    ))
}

/// How many times a page asks servers for keys: in a database with many other keys a page may be
/// empty, and the next one goes on.
const SCANS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_anything_else_is_refused() {
        let position = ListPosition {
            layout: u64::MAX,
            primary: 2,
            cursor: u64::MAX,
            process: 1,
        };
        let cursor = position.cursor().expect("it is plain");
        let back = ListPosition::parse(cursor.as_str()).expect("it reads back");
        assert_eq!(
            (back.layout, back.primary, back.cursor, back.process),
            (u64::MAX, 2, u64::MAX, 1)
        );
        for bad in [
            "",
            "x.0.0.0",
            "1.0.0",
            "1.0.0.0.0",
            "1.-1.0.0",
            "1.0.99999999999999999999.0",
            "1.0.0.x",
        ] {
            assert!(ListPosition::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn odd_answers_to_scan_are_errors() {
        let text = |text: &str| Reply::BulkString(text.as_bytes().to_vec());
        let good = Reply::Array(vec![text("17"), Reply::Array(vec![text("sess:1")])]);
        assert_eq!(
            scanned(Some(good)).ok(),
            Some((17, vec![b"sess:1".to_vec()]))
        );
        let odd = [
            Reply::Nil,
            Reply::Array(vec![text("x"), Reply::Array(vec![])]),
            Reply::Array(vec![text("1"), text("2")]),
            Reply::Array(vec![text("1")]),
            Reply::Array(vec![text("1"), Reply::Array(vec![Reply::Int(1)])]),
        ];
        for reply in odd {
            assert!(scanned(Some(reply)).is_err());
        }
        assert!(scanned(None).is_err());
    }
}
