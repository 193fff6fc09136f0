//! The invalidations that a server pushes, on their way to the near-cache.

use std::sync::Arc;

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};

use crate::store::redis::near_cache::{Health, Near};

/// Receives the server's push messages, in their order.
pub(super) struct Listener {
    pub(super) near: Arc<Near>,
    pub(super) health: Arc<Health>,
}

impl AsyncPushSender for Listener {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match push.kind {
            PushKind::Disconnection => self.health.set_tracked(false),
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(key) = key {
                            self.near.invalidate(&self.health, Some(key));
                        }
                    }
                }
                _ => self.near.invalidate(&self.health, None),
            },
            _ => {}
        }
        Ok(())
    }
}
