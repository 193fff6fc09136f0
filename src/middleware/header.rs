//! The session id in a header of its own, for clients that keep no cookies.

use http::{HeaderName, HeaderValue};

use crate::error::{SetupError, SetupErrorKind};
use crate::middleware::cookie::route::{self, Route};
use crate::session::SessionId;

/// A header of requests and responses that carries the session's id, in place of the cookie: for
/// mobile applications and programs that use an API. See
/// [`SessionLayer::with_header`](crate::SessionLayer::with_header).
///
/// The client keeps the value of the last response that has the header, and sends it with each
/// request. An empty value means that the session has ended. The header is marked as sensitive, as
/// the cookie is, and caches learn that the response depends on it.
///
/// ```
/// use distributable::SessionHeader;
///
/// assert_eq!(SessionHeader::new("X-Session-Id")?.name(), "x-session-id");
/// assert!(SessionHeader::new("Set-Cookie").is_err());
/// # Ok::<(), distributable::SetupError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHeader(HeaderName);

impl SessionHeader {
    /// Checks a header's name.
    ///
    /// # Errors
    ///
    /// Fails if it is no header name, or that of a header with a meaning of its own in requests or
    /// responses, `Authorization` and `Set-Cookie` among them.
    pub fn new(name: &str) -> Result<Self, SetupError> {
        let invalid = || {
            let what = "the header cannot carry a session id: it is no header name, or is taken";
            SetupError::new(SetupErrorKind::Header, what)
        };
        let name: HeaderName = name.parse().map_err(|_| invalid())?;
        let is_taken = TAKEN.contains(&name.as_str())
            || TAKEN_PREFIXES
                .iter()
                .any(|it| name.as_str().starts_with(it));
        if is_taken {
            Err(invalid())
        } else {
            Ok(Self(name))
        }
    }

    /// The header's name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.as_str()
    }

    pub(super) const fn header_name(&self) -> &HeaderName {
        &self.0
    }

    /// The header's value for a session; empty for none.
    pub(super) fn value(id: Option<&SessionId>, route: Option<&Route>) -> HeaderValue {
        let text = id.map_or_else(String::new, |id| route::join(id, route));
        let mut value =
            HeaderValue::try_from(text).expect("ids and routes are visible ASCII characters");
        value.set_sensitive(true);
        value
    }
}

/// Headers to which HTTP gives a meaning that an id would break, or that others fill in.
const TAKEN: &[&str] = &[
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

const TAKEN_PREFIXES: &[&str] = &[
    "accept",
    "access-control-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-forwarded-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in [
            "",
            "a b",
            "a:b",
            "ä",
            "Cookie",
            "SET-COOKIE",
            "content-length",
            "Host",
            "te",
            "authorization",
            "Vary",
            "Accept",
            "X-Forwarded-For",
            "Sec-Fetch-Site",
            "if-match",
        ] {
            let error = SessionHeader::new(name).unwrap_err();
            assert_eq!(error.kind(), SetupErrorKind::Header, "{name:?}");
        }
        for name in ["X-Session-Id", "session", "X-Auth-Token"] {
            let header = SessionHeader::new(name).unwrap();
            assert_eq!(header.name(), name.to_lowercase());
        }
    }

    #[test]
    fn a_value_is_sensitive_and_empty_without_a_session() {
        let id = SessionId::generate();
        let route = Route::new("n1").unwrap();
        let value = SessionHeader::value(Some(&id), Some(&route));
        assert_eq!(value.as_bytes(), format!("{}.n1", id.expose()).as_bytes());
        assert!(value.is_sensitive());
        assert_eq!(SessionHeader::value(None, None).as_bytes(), b"");
    }
}
