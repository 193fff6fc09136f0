//! Sessions whose bases were dropped.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{BridgeError, ENDED, TowerSessions};
use crate::MemoryStore;

/// A visitor logs out while a request of theirs is slow. Many others are served meanwhile, whose
/// records displace what the slow request has loaded.
#[tokio::test]
async fn a_save_does_not_bring_an_ended_session_back_when_its_base_was_dropped() {
    let hour = SystemTime::now() + Duration::from_secs(3_600);
    let store = TowerSessions::new(MemoryStore::new());
    let data = HashMap::from([("user".to_owned(), "ada".into())]);
    assert_eq!(store.create(1, &data, hour).await, Ok(true));
    let large = HashMap::from([("cart".to_owned(), "x".repeat(100_000).into())]);
    assert_eq!(store.create(2, &large, hour).await, Ok(true));
    let load = async || store.load(1).await.unwrap().unwrap().0;
    let (mut slow, mut other) = (load().await, load().await);
    for _ in 0..700 {
        store.load(2).await.unwrap().unwrap();
    }
    // While the session is there, the stored one takes the place of what was loaded.
    other.insert("last_page".to_owned(), "/start".into());
    assert_eq!(store.save(1, &other, hour).await, Ok(()));
    assert_eq!(load().await["last_page"], "/start");
    store.delete(1).await.unwrap();
    slow.insert("last_page".to_owned(), "/report".into());
    let ended = BridgeError::Backend(ENDED.to_owned());
    for _ in 0..2 {
        assert_eq!(store.save(1, &slow, hour).await, Err(ended.clone()));
        assert_eq!(store.load(1).await, Ok(None));
    }
    // Under another id it is a session of its own, as tower-sessions saves one whose id changes.
    assert_eq!(store.save(3, &slow, hour).await, Ok(()));
    assert_eq!(store.load(3).await.unwrap().unwrap().0, slow);
}
