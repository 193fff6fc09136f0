//! The invalidations that a server pushes, on their way to the near-cache.

use std::sync::Arc;

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};

use crate::store::redis::near_cache::{NearCache, TrackingHealth};

/// Receives the server's push messages, in their order.
pub(super) struct InvalidationReceiver {
    pub(super) near_cache: Arc<NearCache>,
    pub(super) health: Arc<TrackingHealth>,
}

impl AsyncPushSender for InvalidationReceiver {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match push.kind {
            PushKind::Disconnection => self.health.end(),
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(key) = key {
                            self.near_cache.invalidate(&self.health, Some(key));
                        }
                    }
                }
                // After `FLUSHALL` and the like the server sends no list of keys.
                _ => self.near_cache.invalidate(&self.health, None),
            },
            _ => {}
        }
        Ok(())
    }
}
