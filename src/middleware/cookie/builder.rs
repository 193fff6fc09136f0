//! Builder and validation of the session cookie.

use std::time::Duration;

use cookie::Cookie;

use crate::error::{SetupError, SetupErrorKind};
use crate::middleware::cookie::{Persistence, SameSite, Secure, SessionCookie};

/// Builder of a [`SessionCookie`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionCookieBuilder {
    name: String,
    path: String,
    domain: Option<String>,
    same_site: SameSite,
    secure: Secure,
    partitioned: bool,
    persistence: Persistence,
}

impl SessionCookieBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            path: "/".to_owned(),
            domain: None,
            same_site: SameSite::default(),
            secure: Secure::default(),
            partitioned: false,
            persistence: Persistence::default(),
        }
    }

    /// Restricts the cookie to this path and the paths below it. Defaults to `/`, because a
    /// narrower path does not protect the session from scripts of other paths.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sends the cookie to this domain and every host below it. Defaults to the responding host
    /// alone, because each further host that gets the cookie can take over the session.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets whether requests initiated by other sites carry the cookie. Defaults to
    /// [`SameSite::Lax`], which allows links from other sites and excludes their forms.
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Sets when the cookie is restricted to encrypted connections. Defaults to [`Secure::Auto`],
    /// which works on a developer's machine without TLS; in production, use [`Secure::Always`].
    pub const fn secure(mut self, secure: Secure) -> Self {
        self.secure = secure;
        self
    }

    /// Sets whether the cookie has a separate jar per embedding site (CHIPS). Defaults to `false`.
    /// Enable it, together with [`SameSite::None`], for widgets that other sites embed.
    pub const fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
        self
    }

    /// Sets how long browsers keep the cookie, unless the session has a setting of its own.
    /// Defaults to [`Persistence::BrowserSession`], because the next user of the browser should not
    /// find it.
    pub const fn persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self
    }

    /// Applies the strictest profile that browsers enforce: the name gets the prefix `__Host-`, so
    /// that no other host, path or unencrypted page can plant a cookie under it.
    ///
    /// Sets [`Secure::Always`] and the path `/`, and clears the domain.
    pub fn host_prefix(mut self) -> Self {
        if !has_prefix(&self.name, HOST_PREFIX) {
            self.name.insert_str(0, HOST_PREFIX);
        }
        self.secure = Secure::Always;
        self.path = "/".to_owned();
        self.domain = None;
        self
    }

    /// Validates the attributes and renders them.
    ///
    /// # Errors
    ///
    /// Fails if the name is not an RFC 9110 token, if the path or the domain cannot be part of a
    /// cookie, if the age is zero, or if browsers would refuse the combination: a `__Host-` name
    /// with a domain or with a path other than `/`, or [`Secure::Never`] with a name prefix,
    /// [`SameSite::None`] or `Partitioned`.
    pub fn build(self) -> Result<SessionCookie, SetupError> {
        self.check()?;
        Ok(SessionCookie {
            secured: self.attributes(true),
            unsecured: self.attributes(self.demands_secure()),
            for_host: self.for_host(),
            secure: self.secure,
            persistence: self.persistence,
            name: self.name.into(),
        })
    }

    fn check(&self) -> Result<(), SetupError> {
        if !is_name(&self.name) {
            let what = "a cookie's name is a token of at most 1024 characters";
            return invalid(SetupErrorKind::CookieName, what);
        }
        if !is_path(&self.path) {
            let what = "a cookie's path starts with '/' and has no spaces, controls or ';'";
            return invalid(SetupErrorKind::CookiePath, what);
        }
        if !self.domain.as_deref().is_none_or(is_domain) {
            let what = "a cookie's domain is a host name";
            return invalid(SetupErrorKind::CookieDomain, what);
        }
        if self.persistence == Persistence::MaxAge(Duration::ZERO) {
            let what = "a cookie's age is greater than zero";
            return invalid(SetupErrorKind::CookieAge, what);
        }
        if self.secure == Secure::Never && self.demands_secure() {
            let what = "a name prefix, SameSite=None and Partitioned require the Secure attribute";
            return invalid(SetupErrorKind::CookieInsecure, what);
        }
        let to_one_host = self.domain.is_none() && self.path == "/";
        if has_prefix(&self.name, HOST_PREFIX) && !to_one_host {
            let what = "a __Host- cookie has no domain and the path '/'";
            return invalid(SetupErrorKind::CookieHostPrefix, what);
        }
        Ok(())
    }

    /// Returns `true` if browsers drop this cookie without `Secure`.
    fn demands_secure(&self) -> bool {
        self.same_site == SameSite::None
            || self.partitioned
            || SECURE_PREFIXES
                .iter()
                .any(|prefix| has_prefix(&self.name, prefix))
    }

    /// The attributes without the domain, if there is one: without and with `Secure`.
    fn for_host(&self) -> Option<[Box<str>; 2]> {
        self.domain.as_ref()?;
        let mut host = self.clone();
        host.domain = None;
        Some([
            host.attributes(host.demands_secure()),
            host.attributes(true),
        ])
    }

    /// All attributes but `Max-Age`.
    fn attributes(&self, secure: bool) -> Box<str> {
        let mut cookie = Cookie::build(("", ""))
            .http_only(true)
            .same_site(match self.same_site {
                SameSite::Strict => cookie::SameSite::Strict,
                SameSite::Lax => cookie::SameSite::Lax,
                SameSite::None => cookie::SameSite::None,
            })
            .partitioned(self.partitioned)
            .secure(secure)
            .path(&*self.path);
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(&**domain);
        }
        let text = cookie.build().to_string();
        text.strip_prefix('=').unwrap_or(&text).into()
    }
}

fn invalid(kind: SetupErrorKind, what: &'static str) -> Result<(), SetupError> {
    Err(SetupError::new(kind, what))
}

/// Browsers compare prefixes without regard to case (RFC 6265bis, section 4.1.3).
fn has_prefix(name: &str, prefix: &str) -> bool {
    let start = name.as_bytes().get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// A token: RFC 9110, section 5.6.2.
fn is_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=ATTRIBUTE_LEN_MAX).contains(&name.len()) && name.bytes().all(is_token)
}

fn is_path(path: &str) -> bool {
    let is_visible = |b: u8| b.is_ascii_graphic() && b != b';';
    path.starts_with('/') && path.len() <= ATTRIBUTE_LEN_MAX && path.bytes().all(is_visible)
}

/// Labels of letters, digits, hyphens and underscores; a leading dot is ignored, as browsers do.
fn is_domain(domain: &str) -> bool {
    let is_inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_inside);
    let labels = domain.strip_prefix('.').unwrap_or(domain);
    domain.len() <= ATTRIBUTE_LEN_MAX && labels.split('.').all(is_label)
}

const HOST_PREFIX: &str = "__Host-";
/// The prefixes whose cookies browsers accept with `Secure` only.
const SECURE_PREFIXES: [&str; 3] = [HOST_PREFIX, "__Secure-", "__Http-"];
/// Browsers ignore attributes that are longer, and names far beyond (RFC 6265bis, section 5.6).
const ATTRIBUTE_LEN_MAX: usize = 1024;
