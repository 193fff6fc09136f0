//! Helpers for tests: of applications, and of stores.
//!
//! For applications: [`TestSession`] makes requests that come with a session, [`CookieJar`] keeps
//! cookies between `oneshot` calls, and [`FailingStore`] fails when a test wants it to. For stores
//! of your own: [`conformance`] checks one against the contract, see
//! [`store::testing`](crate::store::testing).

mod failing_store;
mod jar;
mod session;

pub use failing_store::FailingStore;
pub use jar::CookieJar;
pub use session::TestSession;

pub use crate::store::testing::conformance;
