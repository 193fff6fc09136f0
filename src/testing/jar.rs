//! The cookies of one browser, between requests that do not go over a network.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};

/// The cookies that a browser would have, for tests that call a router with `oneshot`.
///
/// It knows one host and one path, and no time: a cookie goes with every request until a response
/// removes it.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, http::Request, routing::get};
/// use distributable::testing::CookieJar;
/// use distributable::{MemoryStore, Session, SessionError, SessionLayer};
/// use tower::ServiceExt;
///
/// async fn count(session: Session) -> Result<String, SessionError> {
///     let n = session.get::<u32>("n")?.unwrap_or(0) + 1;
///     session.insert("n", &n)?;
///     Ok(n.to_string())
/// }
///
/// let app: Router = Router::new()
///     .route("/", get(count))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// let mut jar = CookieJar::new();
/// for expected in ["1", "2"] {
///     let request = jar.attach(Request::get("/").body(Body::empty())?);
///     let response = app.clone().oneshot(request).await?;
///     jar.keep(&response);
///     assert_eq!(axum::body::to_bytes(response.into_body(), 100).await?, expected);
/// }
/// assert!(jar.get("JSESSIONID").is_some());
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Clone, Default)]
pub struct CookieJar {
    cookies: BTreeMap<String, String>,
}

impl CookieJar {
    /// No cookies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a cookie.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Puts a cookie in, in place of the one of this name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.cookies.insert(name.into(), value.into());
    }

    /// Takes all cookies out: another browser.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// The request with the cookies in it, beside those that it has.
    ///
    /// # Panics
    ///
    /// When a cookie that was [set](Self::set) cannot be sent in a header.
    #[must_use]
    pub fn attach<B>(&self, mut request: Request<B>) -> Request<B> {
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let line = HeaderValue::try_from(pairs.join("; "));
            let line = line.expect("a cookie consists of visible ASCII characters");
            request.headers_mut().append(COOKIE, line);
        }
        request
    }

    /// Keeps the cookies that the response sets, and drops those that it removes.
    pub fn keep<B>(&mut self, response: &Response<B>) {
        self.keep_all(response.headers());
    }

    fn keep_all(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE) {
            let text = String::from_utf8_lossy(line.as_bytes());
            let mut parts = text.split(';').map(str::trim);
            let pair = parts.next().and_then(|pair| pair.split_once('='));
            let Some((name, value)) = pair else { continue };
            let is_removed = parts
                .filter_map(|part| part.split_once('='))
                .any(|(key, age)| {
                    key.eq_ignore_ascii_case("max-age")
                        && age.parse::<i64>().is_ok_and(|seconds| seconds <= 0)
                });
            if is_removed {
                self.cookies.remove(name);
            } else {
                self.set(name, value);
            }
        }
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.cookies.keys().collect();
        f.debug_struct("CookieJar").field("names", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_replaced_and_removed() {
        let mut jar = CookieJar::new();
        let respond = |jar: &mut CookieJar, lines: &[&str]| {
            let mut response = Response::new(());
            for line in lines {
                let line = HeaderValue::from_str(line).unwrap();
                response.headers_mut().append(SET_COOKIE, line);
            }
            jar.keep(&response);
        };
        assert!(jar.attach(Request::new(())).headers().is_empty());
        respond(
            &mut jar,
            &["a=1; Path=/; Max-Age=60", "b=x=y; HttpOnly", "odd"],
        );
        let request = jar.attach(Request::new(()));
        assert_eq!(request.headers()[COOKIE], "a=1; b=x=y");
        respond(&mut jar, &["a=2", "b=; Path=/; max-age=0"]);
        assert_eq!((jar.get("a"), jar.get("b")), (Some("2"), None));
        assert!(!format!("{jar:?}").contains('2'));
        jar.clear();
        assert_eq!(jar.get("a"), None);
    }
}
