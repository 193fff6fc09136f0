//! The name of the node that serves a session: the suffix of the id in the cookie.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{SetupError, SetupErrorKind};
use crate::session::SessionId;

/// A node's name in the cookie, `<id>.<route>`, by which a sticky balancer finds the node.
///
/// One to 32 letters, digits and underscores, so that it can neither end an id early nor break a
/// header. Cheap to clone.
///
/// ```
/// use distributable::Route;
///
/// assert_eq!(Route::new("node1")?.as_str(), "node1");
/// assert!(Route::new("node.1").is_err());
/// # Ok::<(), distributable::SetupError>(())
/// ```
#[doc(alias = "jvmRoute")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route(Arc<str>);

/// The node that the cookie's route names, so that a sticky balancer sends the next request there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Affinity {
    /// The node that served the request: a client that was sent to another node stays there.
    #[default]
    Local,
    /// The session's owner, one of the nodes that hold it, if the store knows it: clients follow
    /// their data.
    Owner,
    /// The node that issued the cookie. A request served by another node does not change it.
    Off,
}

/// A route as received from a client: a valid name that is not trusted. Stored in place, so that a
/// request whose handler does not read it allocates no [`Route`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteBuf {
    len: u8,
    bytes: [u8; Route::MAX_LEN],
}

impl Route {
    /// The longest route, in characters. It keeps the whole cookie far below the limits of proxies.
    pub const MAX_LEN: usize = 32;

    /// Validates a node's name.
    ///
    /// # Errors
    ///
    /// Fails if it is empty, longer than [`MAX_LEN`](Self::MAX_LEN), or has a character other than
    /// letters, digits and underscores.
    pub fn new(name: &str) -> Result<Self, SetupError> {
        if Self::is_valid(name.as_bytes()) {
            Ok(Self(name.into()))
        } else {
            let what = "a route is 1 to 32 letters, digits and underscores";
            Err(SetupError::new(SetupErrorKind::Route, what))
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_valid(name: &[u8]) -> bool {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        (1..=Self::MAX_LEN).contains(&name.len()) && name.iter().all(plain)
    }
}

impl RouteBuf {
    /// Copies the text behind the dot; `None` if it is not a valid route.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        if !Route::is_valid(name) {
            return None;
        }
        let mut bytes = [0; Route::MAX_LEN];
        bytes[..name.len()].copy_from_slice(name);
        let len = name.len() as u8;
        Some(Self { len, bytes })
    }

    /// Returns `true` if it names the node of that route.
    pub(crate) fn names(&self, route: &Route) -> bool {
        self.as_bytes() == route.as_str().as_bytes()
    }

    pub(crate) fn to_route(self) -> Route {
        Route(String::from_utf8_lossy(self.as_bytes()).into())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl fmt::Debug for RouteBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteBuf(hidden)")
    }
}

impl FromStr for Route {
    type Err = SetupError;

    fn from_str(name: &str) -> Result<Self, SetupError> {
        Self::new(name)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cookie's value: the id, and the route of the node that is to serve it. **A secret**, as the
/// id is.
pub(crate) fn join(id: &SessionId, route: Option<&Route>) -> String {
    let mut value = id.expose();
    if let Some(route) = route {
        value.reserve_exact(1 + route.0.len());
        value.push('.');
        value.push_str(route.as_str());
    }
    value
}

/// Splits a received value at its first dot; `None` if the text before it is no id. The text behind
/// it is supplied by the client and not checked.
pub(crate) fn split(value: &[u8]) -> Option<(SessionId, Option<&[u8]>)> {
    // An id has no dots, and all ids have one length.
    let (id, rest) = value.split_at_checked(SessionId::TEXT_LEN)?;
    let route = match rest {
        [] => None,
        [b'.', route @ ..] => Some(route),
        _ => return None,
    };
    Some((SessionId::parse(id)?, route))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_route_is_letters_digits_and_underscores() {
        for name in ["n", "node1", "Node_1", &"x".repeat(32)] {
            assert_eq!(Route::new(name).unwrap().to_string(), name);
        }
    }

    /// 3, 10, C-02.
    #[test]
    fn anything_else_is_refused() {
        let long = "x".repeat(33);
        for name in [
            "", "a.b", "a;b", "a,b", "a b", "a\r\nb", "a-b", "a=b", "\"a\"", "ä", "a\0", &long,
        ] {
            let error = name.parse::<Route>().unwrap_err();
            assert_eq!(error.kind(), SetupErrorKind::Route, "{name:?}");
        }
    }

    #[test]
    fn a_value_splits_at_its_first_dot() {
        let id = SessionId::generate();
        let route_of = |behind: &str| {
            let value = id.expose() + behind;
            split(value.as_bytes()).map(|(found, route)| {
                assert_eq!(found, id);
                route.map(<[u8]>::to_owned)
            })
        };
        assert_eq!(route_of(""), Some(None));
        assert_eq!(route_of("."), Some(Some(b"".to_vec())));
        assert_eq!(route_of(".a.b"), Some(Some(b"a.b".to_vec())));
        assert_eq!(route_of("0.a"), None);
        assert_eq!(split(b".a"), None);
        assert_eq!(split(b""), None);
    }

    #[test]
    fn what_a_client_sent_is_a_route_or_nothing_and_debug_hides_it() {
        let longest = "x".repeat(Route::MAX_LEN);
        for name in ["n", "Node_1", &longest] {
            let received = RouteBuf::new(name.as_bytes()).unwrap();
            let route = Route::new(name).unwrap();
            assert_eq!(received.to_route(), route);
            assert!(received.names(&route));
            assert!(!received.names(&Route::new("other").unwrap()));
            assert_eq!(format!("{received:?}"), "RouteBuf(hidden)");
        }
        let long = "x".repeat(Route::MAX_LEN + 1);
        for name in ["", "a.b", "a b", "a\0", "\u{e4}", &long] {
            assert_eq!(RouteBuf::new(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(RouteBuf::new(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn what_was_joined_splits_again(name in "[A-Za-z0-9_]{1,32}") {
            let id = SessionId::generate();
            let route = Route::new(&name).unwrap();
            let value = join(&id, Some(&route));
            prop_assert_eq!(split(value.as_bytes()), Some((id, Some(name.as_bytes()))));
        }

        #[test]
        fn no_name_makes_it_panic(name in ".*") {
            if let Ok(route) = Route::new(&name) {
                prop_assert_eq!(route.as_str(), name);
            }
        }
    }
}
