//! The traits of tower-sessions, in each of its versions that are supported.
//!
//! They are written out as `async-trait` expands them.

use std::pin::Pin;

use super::{Failure, TowerSessions};

/// An asynchronous answer of those traits.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

macro_rules! implement {
    ($core:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl $core::SessionStore for TowerSessions {
            fn create<'this, 'record, 'answer>(
                &'this self,
                record: &'record mut $core::session::Record,
            ) -> Answer<'answer, $core::session_store::Result<()>>
            where
                'this: 'answer,
                'record: 'answer,
                Self: 'answer,
            {
                Box::pin(async move {
                    for _ in 0..CREATE_TRIES_MAX {
                        let expires_at = record.expiry_date.into();
                        if Self::create(self, record.id.0, &record.data, expires_at).await? {
                            return Ok(());
                        }
                        record.id = $core::session::Id::default();
                    }
                    let every = "every id that was drawn is in use".to_owned();
                    Err($core::session_store::Error::Backend(every))
                })
            }

            fn save<'this, 'record, 'answer>(
                &'this self,
                record: &'record $core::session::Record,
            ) -> Answer<'answer, $core::session_store::Result<()>>
            where
                'this: 'answer,
                'record: 'answer,
                Self: 'answer,
            {
                Box::pin(async move {
                    let expires_at = record.expiry_date.into();
                    Self::save(self, record.id.0, &record.data, expires_at).await?;
                    Ok(())
                })
            }

            fn load<'this, 'id, 'answer>(
                &'this self,
                id: &'id $core::session::Id,
            ) -> Answer<'answer, $core::session_store::Result<Option<$core::session::Record>>>
            where
                'this: 'answer,
                'id: 'answer,
                Self: 'answer,
            {
                Box::pin(async move {
                    let loaded = Self::load(self, id.0).await?;
                    Ok(loaded.map(|(data, expires_at)| $core::session::Record {
                        id: *id,
                        data,
                        expiry_date: expires_at.into(),
                    }))
                })
            }

            fn delete<'this, 'id, 'answer>(
                &'this self,
                id: &'id $core::session::Id,
            ) -> Answer<'answer, $core::session_store::Result<()>>
            where
                'this: 'answer,
                'id: 'answer,
                Self: 'answer,
            {
                Box::pin(async move {
                    Self::delete(self, id.0).await?;
                    Ok(())
                })
            }
        }

        /// Stores of this crate drop expired sessions by themselves: this does nothing.
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl $core::ExpiredDeletion for TowerSessions {
            fn delete_expired<'this, 'answer>(
                &'this self,
            ) -> Answer<'answer, $core::session_store::Result<()>>
            where
                'this: 'answer,
                Self: 'answer,
            {
                Box::pin(async { Ok(()) })
            }
        }

        #[cfg(feature = $feature)]
        impl From<Failure> for $core::session_store::Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::Encode(text) => Self::Encode(text),
                    Failure::Decode(text) => Self::Decode(text),
                    Failure::Backend(text) => Self::Backend(text),
                }
            }
        }
    };
}

implement!(tower_sessions_core, "tower-sessions");
implement!(tower_sessions_core_0_15, "tower-sessions-0-15");

/// How often a new id is drawn when there is a session with it.
const CREATE_TRIES_MAX: usize = 3;
