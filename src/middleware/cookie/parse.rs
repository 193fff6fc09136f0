//! Parsing of session ids from the `Cookie` lines of a request.
//!
//! The parser works on bytes and looks for one name: it compares that exactly, trims spaces and
//! tabs, and decodes nothing. Malformed bytes of other cookies hide nothing, and an escaped or
//! quoted id is no id. It is linear in the length of the lines, and one id needs no allocation. A
//! route sent by a client can be compared with ours ([`IdCandidate::carries`]), and is available to
//! handlers if it is a valid name ([`IdCandidate::route`]); it is used for nothing else.

use std::fmt;

use http::HeaderMap;
use http::header::COOKIE;
use memchr::memchr2;

use crate::middleware::cookie::route::{self, Route, RouteBuf};
use crate::session::SessionId;

/// The session ids received with a request, in their order.
#[derive(Debug, Default)]
pub(crate) struct IdCandidates<'h> {
    first: Option<IdCandidate<'h>>,
    /// Usually empty, so that a request which waits for the store holds little memory.
    others: Vec<IdCandidate<'h>>,
    malformed: usize,
    crowded: bool,
}

/// An id that a client sent, and the text behind its dot.
#[derive(Clone, Copy)]
pub(crate) struct IdCandidate<'h> {
    id: SessionId,
    /// The first and the last route that came with this id; usually there is one cookie.
    routes: [Option<&'h [u8]>; 2],
}

/// Reads all cookies called `name`.
pub(crate) fn parse<'h>(headers: &'h HeaderMap, name: &str) -> IdCandidates<'h> {
    let mut candidates = IdCandidates::default();
    for line in headers.get_all(COOKIE) {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            // A proxy that joins two lines puts a comma between them.
            let end = memchr2(b';', b',', rest).unwrap_or(rest.len());
            if let Some(value) = value_of(&rest[..end], name.as_bytes()) {
                candidates.add(value);
                if candidates.crowded {
                    return candidates;
                }
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    candidates
}

impl<'h> IdCandidates<'h> {
    /// The ids, without duplicates.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &IdCandidate<'h>> {
        self.first.iter().chain(&self.others)
    }

    /// Returns `true` if there was no cookie of our name.
    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none() && self.malformed == 0
    }

    /// Adds the ids of a header that holds nothing else. Several are separated by commas, which is
    /// what proxies make of several lines.
    pub(crate) fn add_line(&mut self, line: &'h [u8]) {
        for value in line.split(|byte| *byte == b',') {
            let value = trim_end(trim_start(value));
            if self.crowded {
                return;
            }
            // An empty value is what the response had that ended the session.
            if !value.is_empty() {
                self.add(value);
            }
        }
    }

    /// The number of cookies with our name that held no id.
    pub(crate) const fn malformed(&self) -> usize {
        self.malformed
    }

    /// Returns `true` if there were more than [`CANDIDATES_MAX`] ids. Those found are then an
    /// arbitrary selection: the order of cookies must not decide which session is used.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.crowded
    }

    fn add(&mut self, value: &'h [u8]) {
        let Some((id, route)) = route::split(value) else {
            self.malformed += 1;
            return;
        };
        let mut known = self.first.iter_mut().chain(&mut self.others);
        if let Some(known) = known.find(|known| known.id == id) {
            known.routes[1] = route;
            return;
        }
        let new = IdCandidate {
            id,
            routes: [route; 2],
        };
        if self.first.is_none() {
            self.first = Some(new);
        } else if self.others.len() + 1 < CANDIDATES_MAX {
            self.others.push(new);
        } else {
            self.crowded = true;
        }
    }
}

impl IdCandidate<'_> {
    /// The id.
    pub(crate) const fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns `true` if the browser holds this id with that route (`None`: without any), so that
    /// sending the cookie again would change nothing.
    pub(crate) fn carries(&self, route: Option<&Route>) -> bool {
        self.routes
            .contains(&route.map(|route| route.as_str().as_bytes()))
    }

    /// The node that the browser's cookie names: `here`, if one of the cookies names it, consistent
    /// with [`carries`](Self::carries); otherwise the first valid route.
    pub(crate) fn route(&self, here: Option<&Route>) -> Option<RouteBuf> {
        let routes = self.routes.iter().flatten();
        let mut names = routes.filter_map(|route| RouteBuf::new(route));
        let is_here = |name: &RouteBuf| here.is_some_and(|here| name.names(here));
        names.clone().find(is_here).or_else(|| names.next())
    }
}

impl fmt::Debug for IdCandidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdCandidate(secret)")
    }
}

/// The value, if this `name=value` pair is called `name`.
fn value_of<'h>(pair: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let behind_name = trim_start(pair).strip_prefix(name)?;
    let value = trim_start(behind_name).strip_prefix(b"=")?;
    Some(trim_end(trim_start(value)))
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// How many ids of one request are looked up. More than one is a leftover of another path or
/// domain, or an attack; each costs a look-up in the store.
pub(crate) const CANDIDATES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const A: &str = "000000000000000000000000AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "000000000000000000000000BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line));
        lines.map(|line| (COOKIE, line.unwrap())).collect()
    }

    fn ids(lines: &[&[u8]]) -> Vec<String> {
        let headers = headers(lines);
        let candidates = parse(&headers, "JSESSIONID");
        candidates.iter().map(|c| c.id().expose()).collect()
    }

    #[test]
    fn an_id_is_found_with_and_without_a_route() {
        for behind in ["", ".", ".node1", ".a.b", ".\"", ".\u{e9}"] {
            let line = format!("JSESSIONID={A}{behind}");
            assert_eq!(ids(&[line.as_bytes()]), [A], "{behind:?}");
        }
    }

    #[test]
    fn it_is_found_among_odd_neighbours_and_on_every_line() {
        let line = format!("a=\"b; ;;=x;y; JSESSIONID \t=\t {A} ;b=\u{fc}");
        let other = format!("JSESSIONID={B}");
        assert_eq!(
            ids(&[b"x=\xff\xfe", line.as_bytes(), other.as_bytes()]),
            [A, B]
        );
    }

    #[test]
    fn names_that_only_look_like_ours_are_not_ours() {
        for name in [
            "jsessionid",
            "JSESSIONID1",
            "XJSESSIONID",
            "$JSESSIONID",
            "JSESSIONID=JSESSIONID",
            "\"JSESSIONID\"",
            "J SESSIONID",
            "",
        ] {
            let line = format!("$Version=1; {name}={A}");
            assert!(ids(&[line.as_bytes()]).is_empty(), "{name:?}");
        }
        assert!(ids(&[b"JSESSIONID"]).is_empty());
    }

    #[test]
    fn values_that_are_no_ids_are_counted_and_not_decoded() {
        let lower = A.to_lowercase();
        let quoted = format!("\"{A}\"");
        let escaped = A.replacen('0', "%30", 1);
        let long = "A".repeat(64 * 1024);
        let values = [
            "",
            ".node1",
            &A[1..],
            &lower,
            &quoted,
            &escaped,
            &long,
            "../../x",
            "*",
        ];
        for value in values {
            let line = format!("JSESSIONID={value}");
            let headers = headers(&[line.as_bytes()]);
            let candidates = parse(&headers, "JSESSIONID");
            assert_eq!(candidates.iter().count(), 0, "{value:?}");
            assert_eq!(candidates.malformed(), 1, "{value:?}");
        }
    }

    #[test]
    fn a_bogus_cookie_before_ours_hides_nothing() {
        let line = format!("JSESSIONID=bogus; JSESSIONID={A}.node1");
        assert_eq!(ids(&[line.as_bytes()]), [A]);
    }

    #[test]
    fn an_id_counts_once_and_either_of_its_routes_counts() {
        let line = format!("JSESSIONID={A}.n1; JSESSIONID={A}.n2");
        let headers = headers(&[line.as_bytes()]);
        let candidates = parse(&headers, "JSESSIONID");
        let found: Vec<_> = candidates.iter().collect();
        assert_eq!(found.len(), 1);
        let route = |name| Route::new(name).unwrap();
        assert!(found[0].carries(Some(&route("n1"))));
        assert!(found[0].carries(Some(&route("n2"))));
        assert!(!found[0].carries(Some(&route("n3"))));
        assert!(!found[0].carries(None));
    }

    #[test]
    fn of_two_routes_of_an_id_ours_counts_and_otherwise_the_first_that_is_one() {
        let named = |behind: [&str; 2], here: Option<&str>| {
            let line = behind.map(|behind| format!("JSESSIONID={A}{behind}"));
            let headers = headers(&[line.join("; ").as_bytes()]);
            let candidates = parse(&headers, "JSESSIONID");
            let here = here.map(|name| Route::new(name).unwrap());
            let found = candidates.iter().next().unwrap().route(here.as_ref());
            found.map(|name| name.to_route().to_string())
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(named([".n1", ".n2"], Some("n1")), some("n1"));
        assert_eq!(named([".n1", ".n2"], Some("n2")), some("n2"));
        assert_eq!(named([".n1", ".n2"], Some("n3")), some("n1"));
        assert_eq!(named([".n1", ".n2"], None), some("n1"));
        assert_eq!(named([".a.b", ".n2"], Some("n3")), some("n2"));
        assert_eq!(named(["", ".n2"], Some("n3")), some("n2"));
        assert_eq!(named(["", "."], Some("n3")), None);
    }

    /// W-12.
    #[test]
    fn lines_that_a_proxy_has_joined_are_read_like_lines() {
        let ours = format!("JSESSIONID={A}.n1");
        for joint in [",", ", ", " , ", ";", "; "] {
            for parts in [
                vec![&*ours, "a=b"],
                vec!["a=b", &ours],
                vec!["a=b", &ours, "c=d"],
                vec!["a", &ours, ""],
            ] {
                let line = parts.join(joint);
                let headers = headers(&[line.as_bytes()]);
                let candidates = parse(&headers, "JSESSIONID");
                let found: Vec<_> = candidates.iter().collect();
                assert_eq!(found.len(), 1, "{line}");
                assert_eq!(found[0].id().expose(), A, "{line}");
                let route = Route::new("n1").unwrap();
                assert!(found[0].carries(Some(&route)), "{line}");
                assert_eq!(candidates.malformed(), 0, "{line}");
            }
            let two = [format!("JSESSIONID={A}"), format!("JSESSIONID={B}")].join(joint);
            assert_eq!(ids(&[two.as_bytes()]), [A, B]);
        }
    }

    #[test]
    fn more_ids_than_are_looked_up_are_a_crowd() {
        let of = |n: usize| (0..n).map(|i| format!("JSESSIONID={i:056}")).collect();
        let four: Vec<String> = of(CANDIDATES_MAX);
        let five: Vec<String> = of(CANDIDATES_MAX + 1);
        let four = headers(&[four.join(";").as_bytes()]);
        let five = headers(&[five.join(";").as_bytes()]);
        assert!(!parse(&four, "JSESSIONID").is_crowded());
        assert!(parse(&five, "JSESSIONID").is_crowded());
    }

    /// C-10.
    #[test]
    fn ours_is_found_behind_fifty_thousand_others() {
        let mut line = "a=bcdefg; ".repeat(50_000);
        line.push_str(&format!("JSESSIONID={A}"));
        assert_eq!(ids(&[line.as_bytes()]), [A]);
    }

    #[test]
    fn debug_shows_no_id_and_no_route() {
        let line = format!("JSESSIONID={A}.evil");
        let headers = headers(&[line.as_bytes()]);
        let shown = format!("{:?}", parse(&headers, "JSESSIONID"));
        assert!(!shown.contains("AAAA") && !shown.contains("evil"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
            let headers: HeaderMap = lines.map(|line| (COOKIE, line)).collect();
            for name in ["JSESSIONID", "a"] {
                prop_assert_eq!(parse(&headers, name).iter().count(), 0);
            }
        }

        /// 8, C-07.
        #[test]
        fn the_order_of_cookies_does_not_matter(mut pairs in prop::collection::vec("(JSESSIONID=|a=|)[0]{39}[0-5]?(\\.[a-c])?", 0..8), split in 0..8_usize) {
            let found = |pairs: &[String]| {
                let (one, two) = pairs.split_at(split.min(pairs.len()));
                let headers = headers(&[one.join("; ").as_bytes(), two.join(";").as_bytes()]);
                let candidates = parse(&headers, "JSESSIONID");
                let mut ids: Vec<_> = candidates.iter().map(|c| c.id().expose()).collect();
                ids.sort();
                (!candidates.is_crowded()).then(|| (ids, candidates.malformed()))
            };
            let forward = found(&pairs);
            pairs.reverse();
            prop_assert_eq!(found(&pairs), forward);
        }
    }
}
