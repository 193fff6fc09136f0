//! Requirements of tower-sessions on a store, in both of its versions, and guarantees beyond those
//! of its own stores: parallel saves, the end of a session, ids that are not stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use distributable::session::{Changes, Loaded, Outcome, Record as Stored, SecretHash, Timestamp};
use distributable::{MemoryStore, Root, StoreError, TowerSessions};
use tokio::time::sleep;

/// The same tests for a version of tower-sessions.
macro_rules! version {
    ($module:ident, $version:ident) => {
        mod $module {
            use $version::session::{Id, Record};
            use $version::session_store::{Error, ExpiredDeletion};
            use $version::{Expiry, Session, SessionStore};

            use super::*;

            fn record(expires_in: Duration) -> Record {
                Record {
                    id: Id::default(),
                    data: HashMap::default(),
                    expiry_date: (SystemTime::now() + expires_in).into(),
                }
            }

            fn memory() -> TowerSessions {
                TowerSessions::new(MemoryStore::new())
            }

            async fn text(session: &Session, name: &str) -> Option<String> {
                session.get(name).await.unwrap()
            }

            #[tokio::test]
            async fn what_is_created_is_loaded_equal() {
                let store = memory();
                let mut new = record(HOUR);
                for name in ["", "a", "\0", "\u{1}e", "\u{1}", "ä"] {
                    new.data.insert(name.to_owned(), name.into());
                }
                new.data.insert("null".to_owned(), ().into());
                new.data.insert("float".to_owned(), 0.1.into());
                new.data.insert("large".to_owned(), u64::MAX.into());
                let nested = [("b", "c"), ("a", "d")].into_iter().collect();
                new.data.insert("object".to_owned(), nested);
                store.create(&mut new).await.unwrap();
                assert_eq!(store.load(&new.id).await.unwrap(), Some(new));
            }

            #[tokio::test]
            async fn an_id_that_is_in_use_is_replaced_by_another_one() {
                let store = memory();
                let mut first = record(HOUR);
                first.data.insert("whose".to_owned(), "first".into());
                store.create(&mut first).await.unwrap();
                let mut second = first.clone();
                store.create(&mut second).await.unwrap();
                assert_ne!(first.id, second.id);
                assert_eq!(store.load(&first.id).await.unwrap(), Some(first));
                assert_eq!(store.load(&second.id).await.unwrap(), Some(second));
            }

            #[tokio::test]
            async fn what_is_saved_replaces_what_was_there() {
                let store = memory();
                let mut record = record(HOUR);
                record.data.insert("kept".to_owned(), 1.into());
                record.data.insert("removed".to_owned(), 1.into());
                store.create(&mut record).await.unwrap();
                record.data.remove("removed");
                record.data.insert("kept".to_owned(), 2.into());
                record.data.insert("added".to_owned(), 3.into());
                record.expiry_date = (SystemTime::now() + 2 * HOUR).into();
                store.save(&record).await.unwrap();
                assert_eq!(store.load(&record.id).await.unwrap(), Some(record));
            }

            #[tokio::test]
            async fn a_record_that_was_never_created_is_saved_as_a_whole() {
                let store = memory();
                let one = record(HOUR);
                store.save(&one).await.unwrap();
                assert_eq!(store.load(&one.id).await.unwrap(), Some(one.clone()));
                // Another program, or another node, replaces it.
                let mut other = record(2 * HOUR);
                other.id = one.id;
                other.data.insert("a".to_owned(), 1.into());
                store.save(&other).await.unwrap();
                let mut third = record(HOUR);
                third.id = one.id;
                third.data.insert("b".to_owned(), 1.into());
                store.save(&third).await.unwrap();
                assert_eq!(store.load(&one.id).await.unwrap(), Some(third));
            }

            #[tokio::test]
            async fn what_is_deleted_is_gone_and_may_be_deleted_again() {
                let store = memory();
                let mut record = record(HOUR);
                store.create(&mut record).await.unwrap();
                store.delete(&record.id).await.unwrap();
                store.delete(&record.id).await.unwrap();
                assert_eq!(store.load(&record.id).await.unwrap(), None);
                assert_eq!(store.load(&Id::default()).await.unwrap(), None);
                store.delete_expired().await.unwrap();
            }

            #[tokio::test]
            async fn a_session_ends_at_its_expiry_date_and_a_save_moves_that() {
                let store = memory();
                let (short, mut long) = loop {
                    let mut short = record(SHORT);
                    let mut long = record(SHORT);
                    store.create(&mut short).await.unwrap();
                    store.create(&mut long).await.unwrap();
                    let expiry = SystemTime::from(long.expiry_date);
                    long.expiry_date = (SystemTime::now() + HOUR).into();
                    let saved = store.save(&long).await;
                    // On a busy machine, it may have ended before.
                    if SystemTime::now() < expiry {
                        saved.unwrap();
                        break (short, long);
                    }
                };
                let expiry = SystemTime::from(short.expiry_date);
                while SystemTime::now() < expiry + Duration::from_millis(50) {
                    sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(store.load(&short.id).await.unwrap(), None);
                assert_eq!(store.load(&long.id).await.unwrap(), Some(long.clone()));
                // A date that has passed ends it at once.
                long.expiry_date = SystemTime::now().into();
                store.save(&long).await.unwrap();
                assert_eq!(store.load(&long.id).await.unwrap(), None);
                let mut late = record(Duration::ZERO);
                store.create(&mut late).await.unwrap();
                assert_eq!(store.load(&late.id).await.unwrap(), None);
            }

            /// A session that is used for longer than it was granted at first.
            #[tokio::test]
            async fn saves_move_the_end_on_without_limit() {
                let store = memory();
                let mut record = record(HOUR);
                store.create(&mut record).await.unwrap();
                for weeks in 1..100 {
                    let expiry = SystemTime::now() + weeks * 7 * 24 * HOUR;
                    record.expiry_date = expiry.into();
                    store.save(&record).await.unwrap();
                    let loaded = store.load(&record.id).await.unwrap();
                    assert_eq!(loaded.as_ref(), Some(&record));
                }
            }

            #[tokio::test]
            async fn requests_that_run_at_once_lose_nothing() {
                let store = Arc::new(memory());
                let first = Session::new(None, store.clone(), None);
                first.insert("removed", "x").await.unwrap();
                first.insert("changed", "x").await.unwrap();
                first.save().await.unwrap();
                let open = || Session::new(first.id(), store.clone(), None);
                let (a, b, c) = (open(), open(), open());
                for session in [&a, &b, &c] {
                    assert_eq!(text(session, "changed").await.as_deref(), Some("x"));
                }
                a.insert("a", "1").await.unwrap();
                b.insert("b", "1").await.unwrap();
                b.remove::<String>("removed").await.unwrap();
                c.insert("changed", "y").await.unwrap();
                for session in [&a, &b, &c] {
                    session.save().await.unwrap();
                }
                // Once more, as the layer does at the end of a request that has saved.
                a.insert("a", "2").await.unwrap();
                for session in [&b, &a] {
                    session.save().await.unwrap();
                }
                let last = open();
                assert_eq!(text(&last, "a").await.as_deref(), Some("2"));
                assert_eq!(text(&last, "b").await.as_deref(), Some("1"));
                assert_eq!(text(&last, "changed").await.as_deref(), Some("y"));
                assert_eq!(text(&last, "removed").await, None);
            }

            #[tokio::test]
            async fn clearing_removes_everything_whether_it_was_read_or_not() {
                let store = Arc::new(memory());
                for reads in [true, false] {
                    let first = Session::new(None, store.clone(), None);
                    first.insert("a", "x").await.unwrap();
                    first.save().await.unwrap();
                    let session = Session::new(first.id(), store.clone(), None);
                    if reads {
                        text(&session, "a").await.unwrap();
                    }
                    session.clear().await;
                    session.save().await.unwrap();
                    let last = Session::new(first.id(), store.clone(), None);
                    assert_eq!(text(&last, "a").await, None);
                    assert!(store.load(&first.id().unwrap()).await.unwrap().is_some());
                }
            }

            #[tokio::test]
            async fn a_slow_request_does_not_bring_an_ended_session_back() {
                let store = Arc::new(memory());
                let first = Session::new(None, store.clone(), None);
                first.insert("a", "x").await.unwrap();
                first.save().await.unwrap();
                let id = first.id().unwrap();
                let slow = Session::new(Some(id), store.clone(), None);
                slow.insert("b", "x").await.unwrap();
                Session::new(Some(id), store.clone(), None)
                    .flush()
                    .await
                    .unwrap();
                assert!(slow.save().await.is_err());
                assert_eq!(store.load(&id).await.unwrap(), None);
            }

            #[tokio::test]
            async fn a_new_id_is_another_session_with_the_same_data() {
                let store = Arc::new(memory());
                let first = Session::new(None, store.clone(), None);
                first.insert("a", "x").await.unwrap();
                first.save().await.unwrap();
                let id = first.id();
                let login = Session::new(id, store.clone(), None);
                login.cycle_id().await.unwrap();
                login.insert("user", "ada").await.unwrap();
                login.save().await.unwrap();
                assert_ne!(login.id(), id);
                let last = Session::new(login.id(), store.clone(), None);
                assert_eq!(text(&last, "a").await.as_deref(), Some("x"));
                assert_eq!(text(&last, "user").await.as_deref(), Some("ada"));
                assert_eq!(store.load(&id.unwrap()).await.unwrap(), None);
            }

            #[tokio::test]
            async fn every_expiry_mode_comes_back_as_its_date() {
                let store = Arc::new(memory());
                let week = (SystemTime::now() + 7 * 24 * HOUR).into();
                let hour = (HOUR).try_into().unwrap();
                for expiry in [
                    Expiry::OnSessionEnd,
                    Expiry::OnInactivity(hour),
                    Expiry::AtDateTime(week),
                ] {
                    let session = Session::new(None, store.clone(), Some(expiry));
                    session.insert("a", 1).await.unwrap();
                    session.save().await.unwrap();
                    let loaded = store.load(&session.id().unwrap()).await.unwrap().unwrap();
                    let difference = (session.expiry_date() - loaded.expiry_date).whole_seconds();
                    assert!((0..10).contains(&difference), "{expiry:?}: {difference}");
                    if let Expiry::AtDateTime(date) = expiry {
                        assert_eq!(loaded.expiry_date, date);
                    }
                }
            }

            #[tokio::test]
            async fn a_record_beyond_the_limits_changes_nothing() {
                let limits = distributable::Limits::default()
                    .with_attribute_bytes(100)
                    .with_session_bytes(150)
                    .with_attributes(3)
                    .with_name_bytes(10);
                let store = memory().with_limits(limits);
                let mut record = record(HOUR);
                record.data.insert("a".to_owned(), "x".repeat(80).into());
                store.create(&mut record).await.unwrap();
                for names in [
                    vec![("b", 101)],
                    vec![("b", 80)],
                    vec![("b", 1), ("c", 1), ("d", 1)],
                    vec![("long name, a", 1)],
                ] {
                    let mut larger = record.clone();
                    for (name, bytes) in &names {
                        larger
                            .data
                            .insert((*name).to_owned(), "x".repeat(*bytes).into());
                    }
                    let refused = store.save(&larger).await;
                    assert!(matches!(refused, Err(Error::Encode(_))), "{names:?}");
                }
                assert_eq!(store.load(&record.id).await.unwrap(), Some(record));
            }

            #[tokio::test]
            async fn a_store_that_fails_is_an_error_and_no_absent_session() {
                let store = TowerSessions::new(Watched::default());
                let mut record = record(HOUR);
                store.create(&mut record).await.unwrap();
                let broken = TowerSessions::new(Broken);
                assert!(broken.load(&record.id).await.is_err());
                assert!(broken.save(&record).await.is_err());
                assert!(broken.create(&mut record).await.is_err());
                assert!(broken.delete(&record.id).await.is_err());
            }

            #[tokio::test]
            async fn the_store_sees_no_id() {
                let watched = Watched::default();
                let store = TowerSessions::new(watched.clone());
                let mut record = record(HOUR);
                record.data.insert("a".to_owned(), 1.into());
                store.create(&mut record).await.unwrap();
                store.load(&record.id).await.unwrap().unwrap();
                store.save(&record).await.unwrap();
                store.delete(&record.id).await.unwrap();
                let (id, text) = (record.id.0.to_le_bytes(), record.id.to_string());
                let seen = watched.seen.lock().unwrap();
                assert!(seen.len() >= 4);
                for bytes in seen.iter() {
                    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
                    assert!(!has(&id[..6]) && !has(text.as_bytes()));
                }
            }
        }
    };
}

version!(version_0_14, tower_sessions);
version!(version_0_15, tower_sessions_0_15);

/// A store that keeps everything it has seen.
#[derive(Clone, Default)]
struct Watched {
    inner: Arc<Mutex<HashMap<Root, Arc<Stored>>>>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Watched {
    fn see(&self, key: &Root, secret: Option<&SecretHash>, more: &str) {
        let secret = secret.map(|secret| secret.to_bytes().to_vec());
        let seen = [
            &key.to_bytes()[..],
            &secret.unwrap_or_default(),
            more.as_bytes(),
        ];
        self.seen.lock().unwrap().push(seen.concat());
    }
}

impl distributable::SessionStore for Watched {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.see(key, secret, "");
        let sessions = self.inner.lock().unwrap();
        let record = sessions.get(key);
        Ok(record.map_or(Loaded::Absent, |record| {
            record.loaded(secret, Timestamp::now())
        }))
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Stored>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.see(key, None, &format!("{changes:?}"));
        for (name, value) in changes.writes() {
            let value = value.as_ref().map(|value| value.as_bytes().to_vec());
            self.see(key, None, name);
            self.seen.lock().unwrap().push(value.unwrap_or_default());
        }
        let mut sessions = self.inner.lock().unwrap();
        let base = base.map(Arc::as_ref);
        let outcome = changes.apply(sessions.get(key), base, Timestamp::now());
        if let Outcome::Committed(record) = &outcome {
            sessions.insert(*key, record.clone());
        }
        Ok(outcome)
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.see(key, None, "");
        Ok(())
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.see(key, None, "");
        Ok(self.inner.lock().unwrap().remove(key).is_some())
    }
}

/// A store that is away.
struct Broken;

impl distributable::SessionStore for Broken {
    async fn load(&self, _: &Root, _: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        Err(StoreError::unavailable("away"))
    }

    async fn commit(
        &self,
        _: &Root,
        _: Option<&Arc<Stored>>,
        _: Changes,
    ) -> Result<Outcome, StoreError> {
        Err(StoreError::unavailable("away"))
    }

    async fn touch(&self, _: &Root) -> Result<(), StoreError> {
        Err(StoreError::unavailable("away"))
    }

    async fn delete(&self, _: &Root) -> Result<bool, StoreError> {
        Err(StoreError::unavailable("away"))
    }
}

#[tokio::test]
async fn both_versions_share_their_sessions() {
    let store = MemoryStore::new();
    let bridge = TowerSessions::new(store.clone());
    let mut record = tower_sessions::session::Record {
        id: tower_sessions::session::Id::default(),
        data: HashMap::from([("a".to_owned(), 1.into())]),
        expiry_date: (SystemTime::now() + HOUR).into(),
    };
    tower_sessions::SessionStore::create(&bridge, &mut record)
        .await
        .unwrap();
    let id = tower_sessions_0_15::session::Id(record.id.0);
    let loaded = tower_sessions_0_15::SessionStore::load(&bridge, &id).await;
    assert_eq!(loaded.unwrap().unwrap().data, record.data);
    assert_eq!(store.status().sessions, 1);
}

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(300);
