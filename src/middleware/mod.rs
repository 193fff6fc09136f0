//! The HTTP middleware: one request and its response, between a cookie and a store.
//!
//! Applications use [`SessionLayer`](crate::SessionLayer) and [`Session`](crate::Session). The
//! types here are what the layer and [`SessionCookie::builder`](crate::SessionCookie::builder)
//! return, for signatures that name them.

mod body;
mod carrier;
mod commit_when;
mod config;
pub(crate) mod cookie;
#[cfg(feature = "axum")]
mod extract;
mod future;
pub(crate) mod header;
mod hint;
mod keep_alive;
pub(crate) mod layer;
pub(crate) mod limits;
mod misrouted;
pub(crate) mod peek;
mod request;
mod rollback;
mod run_to_completion;
mod service;
pub(crate) mod session;
pub(crate) mod session_data;
mod state;
#[cfg(feature = "testing")]
mod test_store;
mod timeout;

pub use body::ResponseBody;
pub use cookie::SessionCookieBuilder;
pub use future::ResponseFuture;
pub use service::SessionService;
