//! Helpers for tests: of applications, and of stores.
//!
//! For applications: [`Session::for_test`](crate::Session::for_test) makes a session without a
//! request; [`TestSession`] makes requests that come with a session, so that a handler behind a
//! role check is tested without a login; [`CookieJar`] keeps cookies between `oneshot`
//! calls; [`TestClock`] lets hours pass; and [`FailingStore`] fails when a test wants it to. For
//! stores of your own: [`conformance`] checks one against the contract.

mod clock;
mod failing_store;
mod jar;
mod session;

pub use clock::TestClock;
pub use failing_store::FailingStore;
pub use jar::CookieJar;
pub use session::TestSession;

pub use crate::store::testing::conformance;
