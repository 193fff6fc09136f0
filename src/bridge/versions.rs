//! The traits of tower-sessions, in each of its versions that are supported.

use async_trait::async_trait;

use crate::bridge::{BridgeError, TowerSessions};

macro_rules! implement {
    ($core:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        #[async_trait]
        impl $core::SessionStore for TowerSessions {
            async fn create(
                &self,
                record: &mut $core::session::Record,
            ) -> $core::session_store::Result<()> {
                for _ in 0..CREATE_TRIES_MAX {
                    let expires_at = record.expiry_date.into();
                    if Self::create(self, record.id.0, &record.data, expires_at).await? {
                        return Ok(());
                    }
                    record.id = $core::session::Id::default();
                }
                let every = "every id that was drawn is in use".to_owned();
                Err($core::session_store::Error::Backend(every))
            }

            async fn save(
                &self,
                record: &$core::session::Record,
            ) -> $core::session_store::Result<()> {
                let expires_at = record.expiry_date.into();
                Ok(Self::save(self, record.id.0, &record.data, expires_at).await?)
            }

            async fn load(
                &self,
                id: &$core::session::Id,
            ) -> $core::session_store::Result<Option<$core::session::Record>> {
                let loaded = Self::load(self, id.0).await?;
                Ok(loaded.map(|(data, expires_at)| $core::session::Record {
                    id: *id,
                    data,
                    expiry_date: expires_at.into(),
                }))
            }

            async fn delete(&self, id: &$core::session::Id) -> $core::session_store::Result<()> {
                Ok(Self::delete(self, id.0).await?)
            }
        }

        /// Stores of this crate drop expired sessions by themselves: this does nothing.
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        #[async_trait]
        impl $core::ExpiredDeletion for TowerSessions {
            async fn delete_expired(&self) -> $core::session_store::Result<()> {
                Ok(())
            }
        }

        #[cfg(feature = $feature)]
        impl From<BridgeError> for $core::session_store::Error {
            fn from(failure: BridgeError) -> Self {
                match failure {
                    BridgeError::Encode(text) => Self::Encode(text),
                    BridgeError::Decode(text) => Self::Decode(text),
                    BridgeError::Backend(text) => Self::Backend(text),
                }
            }
        }
    };
}

implement!(tower_sessions_core, "tower-sessions");
implement!(tower_sessions_core_0_15, "tower-sessions-0-15");

/// How often a new id is drawn when there is a session with it.
const CREATE_TRIES_MAX: usize = 3;
