//! The receiver of the messages that a server pushes to a subscription.

use std::sync::{Arc, Weak};

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use crate::store::redis::RedisShared;

/// Receives what the server sends, in order.
pub(super) struct EventReceiver {
    pub(super) shared: Weak<RedisShared>,
    pub(super) expired: String,
    pub(super) end: Arc<Notify>,
}

impl AsyncPushSender for EventReceiver {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let [Value::BulkString(channel), Value::BulkString(content)] = &push.data[..]
                else {
                    return Ok(());
                };
                let Some(shared) = self.shared.upgrade() else {
                    return Ok(());
                };
                if channel == self.expired.as_bytes() {
                    if let Some(key) = shared.config.prefix.parse(content)
                        && !key.is_index()
                    {
                        shared.events.watched.removed(key);
                    }
                } else {
                    shared.events.receive(content);
                }
            }
            // The slot of the channel has moved, or the connection has broken.
            PushKind::SUnsubscribe | PushKind::Unsubscribe | PushKind::Disconnection => {
                self.end.notify_one();
            }
            _ => {}
        }
        Ok(())
    }
}
