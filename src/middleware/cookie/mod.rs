//! The session cookie: its attributes, writing it, and reading it.
//!
//! [`SessionCookie`] is validated when it is built: a cookie that browsers would refuse, or that
//! could break a header, cannot be configured. One function both sets and removes it, so a removal
//! always repeats the attributes that browsers match on. Reading ([`parse()`]) works on the bytes
//! of all `Cookie` lines and looks for one name only.
//!
//! This module does not decide when a cookie is sent, and it never repeats what a client sent.

mod builder;
pub(crate) mod headers;
mod parse;
pub(crate) mod persistence;
pub(crate) mod route;
mod secure;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri};

pub use self::builder::SessionCookieBuilder;
pub(crate) use self::parse::{IdCandidate, IdCandidates, parse};
use self::route::Route;
pub(crate) use self::secure::IsSecure;
pub use self::secure::Secure;
use crate::session::SessionId;

/// The cookie that carries the session id, and its attributes.
///
/// The defaults are `JSESSIONID`, `HttpOnly`, `SameSite=Lax`, `Path=/`, no `Domain`, no `Max-Age`,
/// and `Secure` wherever the connection may be observed ([`Secure::Auto`]). `HttpOnly` cannot be
/// switched off.
///
/// ```
/// use distributable::{SameSite, Secure, SessionCookie};
///
/// let cookie = SessionCookie::builder("shop")
///     .same_site(SameSite::Strict)
///     .secure(Secure::Always)
///     .build()?;
/// assert_eq!(cookie.name(), "shop");
///
/// let careless = SessionCookie::builder("shop").same_site(SameSite::None).secure(Secure::Never);
/// assert!(careless.build().is_err());
/// # Ok::<(), distributable::SetupError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: Box<str>,
    secure: Secure,
    persistence: Persistence,
    /// All attributes but `Max-Age`, with and without `Secure`: rendered once.
    secured: Box<str>,
    unsecured: Box<str>,
    /// If the cookie has a domain: the same attributes without it, for a cookie of the responding
    /// host.
    for_host: Option<[Box<str>; 2]>,
}

/// The policy for sending the cookie with requests that other sites initiate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these three are the cookie standard's"
)]
pub enum SameSite {
    /// Never; a link from another site opens the page without the session.
    Strict,
    /// With links that the user follows, not with forms, frames and scripts of other sites.
    #[default]
    Lax,
    /// Always; for applications embedded in other sites. Browsers demand `Secure`.
    None,
}

/// The time for which the browser keeps the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a cookie either has an age or it has none"
)]
pub enum Persistence {
    /// Until the browser ends its session.
    #[default]
    BrowserSession,
    /// At least that long after the last visit, even if the browser is restarted: "remember me".
    ///
    /// The cookie is sent again when a tenth of its age, at most a day, has passed since it was
    /// last sent. Its `Max-Age` exceeds the age by the same amount, so a visit in between loses
    /// nothing. It never exceeds the 400 days that browsers allow.
    ///
    /// The session still expires by its idle or absolute timeout.
    MaxAge(Duration),
}

/// The content of a `Set-Cookie` header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CookieValue<'a> {
    /// The browser's session has this id, and the node of this route serves it.
    Session {
        id: &'a SessionId,
        route: Option<&'a Route>,
        persistence: Persistence,
    },
    /// The browser has no session any more.
    Removal,
}

impl SessionCookie {
    /// Starts from the default attributes, with the given name.
    pub fn builder(name: impl Into<String>) -> SessionCookieBuilder {
        SessionCookieBuilder::new(name.into())
    }

    /// Returns the cookie's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long browsers keep the cookie, unless the session has a setting of its own.
    pub(crate) const fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Decides whether the response to this request sets the cookie with `Secure`.
    pub(crate) fn is_secure(&self, uri: &Uri, headers: &HeaderMap) -> IsSecure {
        self.secure.applies(uri, headers)
    }

    /// Removes the host-only cookie of the same name; `None` if this cookie itself is host-only.
    pub(crate) fn removal_for_host(&self, secure: bool) -> Option<HeaderValue> {
        let [unsecured, secured] = self.for_host.as_ref()?;
        let attributes = if secure { secured } else { unsecured };
        Some(self.line("", attributes, Some(0)))
    }

    /// Renders the cookie, both to set and to remove it.
    ///
    /// The header is marked sensitive: `Debug` hides it, and HTTP/2 keeps it out of its tables.
    pub(crate) fn header(&self, content: CookieValue<'_>, secure: bool) -> HeaderValue {
        let (value, max_age) = match content {
            CookieValue::Session {
                id,
                route,
                persistence,
            } => (route::join(id, route), persistence.max_age()),
            CookieValue::Removal => (String::new(), Some(0)),
        };
        let attributes = if secure {
            &self.secured
        } else {
            &self.unsecured
        };
        self.line(&value, attributes, max_age)
    }

    fn line(&self, value: &str, attributes: &str, max_age: Option<u64>) -> HeaderValue {
        let age = max_age.map_or_else(String::new, |secs| format!("; Max-Age={secs}"));
        let text = [&self.name, "=", value, attributes, &age].concat();
        let mut header = HeaderValue::try_from(text)
            .expect("the builder, the id and the route admit visible ASCII and spaces only");
        header.set_sensitive(true);
        header
    }
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self::builder(DEFAULT_NAME)
            .build()
            .expect("the default attributes are valid")
    }
}

impl Persistence {
    /// Whole seconds for `Max-Age`, at least one, because zero would remove the cookie. They exceed
    /// the age by the time that may pass before the cookie is sent again.
    fn max_age(self) -> Option<u64> {
        let secs = self.age_secs()?;
        let slack = whole_secs(self.renewed_after()?);
        Some(secs.saturating_add(slack).clamp(1, MAX_AGE_SECS))
    }

    /// The age in whole seconds, at least one.
    pub(crate) fn age_secs(self) -> Option<u64> {
        match self {
            Self::BrowserSession => None,
            Self::MaxAge(age) => Some(whole_secs(age).max(1)),
        }
    }

    /// The time after which a returning browser is sent the cookie again: a tenth of its age, at
    /// most a day.
    pub(crate) fn renewed_after(self) -> Option<Duration> {
        let age = Duration::from_secs(self.age_secs()?);
        Some((age / 10).min(RENEWED_AFTER_MAX))
    }
}

/// `duration`, rounded up.
fn whole_secs(duration: Duration) -> u64 {
    let started = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(started)
}

/// The name that balancers look for by default.
const DEFAULT_NAME: &str = "JSESSIONID";
/// 400 days: the limit that RFC 6265bis, section 5.5, sets for every cookie.
const MAX_AGE_SECS: u64 = 400 * 24 * 60 * 60;
const RENEWED_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
