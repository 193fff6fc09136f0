//! Response headers of a request that has extracted its session.

use http::header::{CACHE_CONTROL, Entry, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Declares to caches that the response depends on a header of the request.
pub(crate) fn vary(headers: &mut HeaderMap, name: HeaderValue) {
    match headers.entry(VARY) {
        Entry::Vacant(line) => {
            line.insert(name);
        }
        Entry::Occupied(mut lines) => {
            let says_so =
                |item: &str| item == "*" || item.as_bytes().eq_ignore_ascii_case(name.as_bytes());
            if !items(lines.iter()).any(says_so) {
                lines.append(name);
            }
        }
    }
}

/// Sets the session header, replacing one that the handler has set under the same name, and
/// declares the response private to one client.
pub(crate) fn set_header(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let no_cache = format!("no-cache=\"{name}\"");
    headers.insert(name, value);
    forbid_caching(headers, &no_cache);
}

/// Sets the session cookie, replacing one that the handler has set under the same name, and
/// declares the response private to one visitor. `other` removes a cookie of that name with another
/// scope. It is written first: a client that ignores scopes keeps the last one.
pub(crate) fn set_cookie(
    headers: &mut HeaderMap,
    name: &str,
    other: Option<HeaderValue>,
    cookie: HeaderValue,
) {
    remove_cookie(headers, name);
    if let Some(other) = other {
        headers.append(SET_COOKIE, other);
    }
    headers.append(SET_COOKIE, cookie);
    forbid_caching(headers, NO_CACHE);
}

/// Adds a directive to `Cache-Control`, unless that says as much or more.
fn forbid_caching(headers: &mut HeaderMap, directive: &str) {
    let strict = |item: &str| {
        let directives = ["no-store", "no-cache", directive];
        directives.iter().any(|it| item.eq_ignore_ascii_case(it))
    };
    if !items(headers.get_all(CACHE_CONTROL).iter()).any(strict) {
        let value = HeaderValue::from_str(directive).expect("it quotes a header's name");
        headers.append(CACHE_CONTROL, value);
    }
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_ours = |cookie: &HeaderValue| {
        let behind_name = cookie.as_bytes().strip_prefix(name.as_bytes());
        behind_name.is_some_and(|it| it.starts_with(b"="))
    };
    if headers.get_all(SET_COOKIE).iter().any(is_ours) {
        let all = headers.get_all(SET_COOKIE).iter();
        let others: Vec<_> = all.filter(|it| !is_ours(it)).cloned().collect();
        headers.remove(SET_COOKIE);
        for cookie in others {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// The items of a comma-separated header, from all its lines.
fn items<'h>(lines: impl Iterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h str> {
    let texts = lines.filter_map(|line| line.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// A cache may store the page, but not the cookie.
const NO_CACHE: &str = "no-cache=\"Set-Cookie\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn all<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
        let values = headers.get_all(name).into_iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn vary_is_added_to_what_the_handler_says_and_not_repeated() {
        for (said, expected) in [
            (vec![], vec!["Cookie"]),
            (vec![("vary", "accept")], vec!["accept", "Cookie"]),
            (vec![("vary", "accept, cookie")], vec!["accept, cookie"]),
            (vec![("vary", "*")], vec!["*"]),
        ] {
            let mut headers = headers(&said);
            vary(&mut headers, HeaderValue::from_static("Cookie"));
            assert_eq!(all(&headers, "vary"), expected);
        }
    }

    #[test]
    fn vary_is_set_unless_the_handler_has_set_more() {
        for (said, expected) in [
            (vec![], vec![NO_CACHE]),
            (
                vec![("cache-control", "private")],
                vec!["private", NO_CACHE],
            ),
            (
                vec![("cache-control", "private, no-store")],
                vec!["private, no-store"],
            ),
            (vec![("cache-control", "No-Cache")], vec!["No-Cache"]),
            (vec![("cache-control", NO_CACHE)], vec![NO_CACHE]),
        ] {
            let mut headers = headers(&said);
            set_cookie(&mut headers, "S", None, HeaderValue::from_static("S=1"));
            assert_eq!(all(&headers, "cache-control"), expected);
        }
    }

    #[test]
    fn our_cookie_replaces_its_namesake_and_no_other() {
        let set = "set-cookie";
        let mut headers = headers(&[
            (set, "S=0"),
            (set, "S1=0"),
            (set, "s=0"),
            (set, "S=2; Path=/x"),
        ]);
        set_cookie(&mut headers, "S", None, HeaderValue::from_static("S=1"));
        assert_eq!(all(&headers, set), ["S1=0", "s=0", "S=1"]);
    }
}
