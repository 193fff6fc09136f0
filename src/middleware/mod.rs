//! One request, one response: the session between a cookie and a store.

mod attribute;
mod cookie;
mod route;

pub use attribute::{Attribute, AttributeName, AttributeOf, Storable};
pub use cookie::{
    InvalidCookie, Persistence, SameSite, Secure, SessionCookie, SessionCookieBuilder,
};
pub use route::{InvalidRoute, Route};
