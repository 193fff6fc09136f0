//! [`Carrier`]: the cookie, the header, or both, in which the session's id travels.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::middleware::cookie::headers;
use crate::middleware::cookie::route::Route;
use crate::middleware::cookie::{
    self, CookieValue, IdCandidates, IsSecure, Persistence, SessionCookie,
};
use crate::middleware::header::SessionHeader;
use crate::session::SessionId;

/// The parts of requests and responses in which a layer reads and writes ids.
#[derive(Clone, Debug)]
pub(super) enum Carrier {
    Cookie(SessionCookie),
    Header(SessionHeader),
    /// A client that has sent its id in one of them is answered in the same; one that has sent none
    /// in both.
    Either(SessionCookie, SessionHeader),
}

/// The parts of a response that carry the id; they depend on the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IdPlacement {
    cookie: bool,
    header: bool,
    secure: IsSecure,
}

/// The session id carried by a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseId<'a> {
    /// The id; `None`: there is no session any more.
    pub(super) id: Option<(&'a SessionId, Persistence)>,
    pub(super) route: Option<&'a Route>,
    /// Also removes a cookie of the same name with another scope.
    pub(super) removes_other: bool,
}

impl IdPlacement {
    /// Returns `true` if the response sets a cookie, whose `Secure` is a guess.
    pub(super) const fn is_guess(self) -> bool {
        self.cookie && self.secure.is_guess
    }
}

impl Carrier {
    pub(super) const fn cookie(&self) -> Option<&SessionCookie> {
        match self {
            Self::Cookie(cookie) | Self::Either(cookie, _) => Some(cookie),
            Self::Header(_) => None,
        }
    }

    pub(super) const fn header(&self) -> Option<&SessionHeader> {
        match self {
            Self::Header(header) | Self::Either(_, header) => Some(header),
            Self::Cookie(_) => None,
        }
    }

    /// Returns `true` if two layers use the same cookie or header.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        let names = (
            self.cookie().map(SessionCookie::name),
            other.cookie().map(SessionCookie::name),
        );
        let headers = (self.header(), other.header());
        names.0.is_some() && names.0 == names.1 || headers.0.is_some() && headers.0 == headers.1
    }

    /// How long browsers keep the cookie, unless the session has a setting of its own.
    pub(super) fn persistence(&self) -> Persistence {
        self.cookie()
            .map_or(Persistence::BrowserSession, SessionCookie::persistence)
    }

    /// Marks the lines with an id as sensitive, so that inner services which log the request do not
    /// log the id.
    pub(super) fn hide(&self, headers: &mut HeaderMap) {
        let (has_cookie, header) = (self.cookie().is_some(), self.header());
        let header = header.map(SessionHeader::header_name);
        // A request has a few headers: looking at each is cheaper than hashing one name.
        for (name, line) in headers {
            if has_cookie && *name == COOKIE || header == Some(name) {
                line.set_sensitive(true);
            }
        }
    }

    /// The ids that a request presents, and the parts of its response that carry one.
    pub(super) fn read<'h>(
        &self,
        uri: &Uri,
        headers: &'h HeaderMap,
    ) -> (IdCandidates<'h>, IdPlacement) {
        let (mut candidates, mut placement) = (IdCandidates::default(), IdPlacement::default());
        if let Some(cookie) = self.cookie() {
            candidates = cookie::parse(headers, cookie.name());
            placement.secure = cookie.is_secure(uri, headers);
            placement.cookie = !candidates.is_empty();
        }
        if let Some(header) = self.header() {
            placement.header = headers.contains_key(header.header_name());
            for line in headers.get_all(header.header_name()) {
                candidates.add_line(line.as_bytes());
            }
        }
        if !placement.cookie && !placement.header {
            placement.cookie = self.cookie().is_some();
            placement.header = self.header().is_some();
        }
        (candidates, placement)
    }

    /// Adds `Vary` so that caches key on the id.
    pub(super) fn vary(&self, headers: &mut HeaderMap) {
        if self.cookie().is_some() {
            headers::vary(headers, HeaderValue::from_static("Cookie"));
        }
        if let Some(header) = self.header() {
            headers::vary(headers, header_name(header).into());
        }
    }

    /// Writes an id into a response, or that there is no session any more. No other function does.
    pub(super) fn write(
        &self,
        headers: &mut HeaderMap,
        placement: IdPlacement,
        response_id: ResponseId<'_>,
    ) {
        let secure = placement.secure.secure;
        if let Some(cookie) = self.cookie().filter(|_| placement.cookie) {
            let content = match response_id.id {
                None => CookieValue::Removal,
                Some((id, persistence)) => CookieValue::Session {
                    id,
                    route: response_id.route,
                    persistence,
                },
            };
            let other = response_id
                .removes_other
                .then(|| cookie.removal_for_host(secure));
            let line = cookie.header(content, secure);
            headers::set_cookie(headers, cookie.name(), other.flatten(), line);
        }
        if let Some(header) = self.header().filter(|_| placement.header) {
            let value = SessionHeader::value(response_id.id.map(|(id, _)| id), response_id.route);
            headers::set_header(headers, header_name(header), value);
        }
    }
}

fn header_name(header: &SessionHeader) -> HeaderName {
    header.header_name().clone()
}
