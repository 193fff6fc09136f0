//! The HTTP middleware: one request and its response, between a cookie and a store.

mod body;
mod carrier;
mod commit_when;
mod complete;
mod config;
mod cookie;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod head;
mod header;
mod hint;
mod keep_alive;
mod layer;
mod limits;
mod misrouted;
mod peek;
mod remember;
mod request_session;
mod route;
mod service;
mod session;
mod session_data;
mod state;
mod take_back;
mod test_store;
mod timeout;

pub use body::ResponseBody;
pub use cookie::{Persistence, SameSite, Secure, SessionCookie, SessionCookieBuilder};
pub use future::ResponseFuture;
pub use header::SessionHeader;
pub use layer::SessionLayer;
pub use limits::Limits;
pub use peek::Peek;
pub use route::{Affinity, Route};
pub use service::SessionService;
pub use session::Session;
pub use session_data::{SessionData, SessionDataMut};
