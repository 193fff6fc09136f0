//! [`Carrier`]: where the session's id travels: in a cookie, in a header, or in either.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::middleware::cookie::headers;
use crate::middleware::cookie::route::Route;
use crate::middleware::cookie::{
    self, CookieValue, IdCandidates, IsSecure, Persistence, SessionCookie,
};
use crate::middleware::header::SessionHeader;
use crate::session::SessionId;

/// Where a layer reads ids, and where it writes them.
#[derive(Clone, Debug)]
pub(super) enum Carrier {
    Cookie(SessionCookie),
    Header(SessionHeader),
    /// A client that has sent its id in one of them is answered in the same; one that has sent none
    /// in both.
    Either(SessionCookie, SessionHeader),
}

/// Where a response carries the id, which depends on the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IdPlacement {
    cookie: bool,
    header: bool,
    secure: IsSecure,
}

/// What a response says of the session's id.
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

    /// Whether two layers read one id, at least sometimes.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        let names = (
            self.cookie().map(SessionCookie::name),
            other.cookie().map(SessionCookie::name),
        );
        let headers = (self.header(), other.header());
        names.0.is_some() && names.0 == names.1 || headers.0.is_some() && headers.0 == headers.1
    }

    /// How long browsers keep the cookie, where the session does not say otherwise.
    pub(super) fn persistence(&self) -> Persistence {
        self.cookie()
            .map_or(Persistence::BrowserSession, SessionCookie::persistence)
    }

    /// Hides the id from what is inside, and logs the request.
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

    /// The ids that a request presents, and where its response carries one.
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

    /// Says to caches that the response depends on the id.
    pub(super) fn vary(&self, headers: &mut HeaderMap) {
        if self.cookie().is_some() {
            headers::vary(headers, HeaderValue::from_static("Cookie"));
        }
        if let Some(header) = self.header() {
            headers::vary(headers, header_name(header).into());
        }
    }

    /// The one function that writes an id into a response, or that there is none any more.
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
