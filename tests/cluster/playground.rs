//! The probe itself, and what needs one real process: flags, the contract of its answers, hostile
//! requests over a real socket, the log, HTTP/2, the end of the process.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, Start, eventually, within};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

fn node() -> Node {
    Start::memory("node1").ready()
}

/// Case 1, C-01.
#[test]
fn the_first_write_issues_exactly_one_cookie_of_the_documented_shape() {
    let node = node();
    let mut browser = Browser::new();
    let reply = browser.get(&node, "/set?k=a&v=1");
    let [line] = reply.set_cookies()[..] else {
        panic!("expected one cookie: {reply:?}")
    };
    let mut parts = line.split("; ");
    let value = parts
        .next()
        .and_then(|pair| pair.strip_prefix("JSESSIONID="))
        .expect("our name");
    let bare = value.strip_suffix(".node1").expect("our route");
    assert!(bare.len() == 56 && bare.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')));
    let mut attributes: Vec<_> = parts.collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax"]);
    assert!(browser.get(&node, "/get?k=a").set_cookies().is_empty());
}

/// Case 2.
#[test]
fn without_a_route_the_cookie_has_no_dot() {
    let node = Start::default().ready();
    let mut browser = Browser::new();
    assert_eq!(browser.ok(&node, "/set?k=a&v=1")["node"], Value::Null);
    assert_eq!(browser.cookie().map(str::len), Some(56));
}

/// Cases 3, 10, and flags that lack others.
#[test]
fn a_start_that_cannot_work_ends_with_a_reason() {
    let starts: [(&[&str], &str); 11] = [
        (&["--id-header", "Set-Cookie"], "header"),
        (&["--route", "a.b"], "route"),
        (&["--route", "a b"], "route"),
        (&["--route", "r23456789012345678901234567890123"], "route"),
        (&["--cookie-name", "a b"], "cookie"),
        (&["--cookie-name", ""], "cookie"),
        (&["--store", "file"], "--file PATH"),
        (&["--store", "redis"], "--redis-url"),
        (&["--store", "redis", "--redis-url", "http://h"], "scheme"),
        (&["--near-cache"], "near-cache"),
        (
            &["--store", "replicated", "--secret-file", "/no/secret"],
            "openssl rand",
        ),
    ];
    for (args, word) in starts {
        let (status, message) = Start::default().args(args).refused();
        assert!(
            !status.success() && message.contains(word),
            "{args:?}: {status} {message}"
        );
        assert!(!message.contains("panicked"), "{args:?}: {message}");
    }
}

/// Case 10.
#[test]
fn the_cookie_follows_the_flags() {
    let flags = ["--secure", "always", "--cookie-name", "__Host-sid"];
    let node = Start::memory("node1").args(&flags).ready();
    let reply = Browser::new().get(&node, "/set?k=a&v=1");
    let line = reply.set_cookies()[0];
    assert!(
        line.starts_with("__Host-sid=") && line.contains("; Secure"),
        "{line}"
    );
    assert!(!line.contains("Domain"), "{line}");

    let forwarded = b"X-Forwarded-Proto: https\r\n";
    let auto = Start::memory("node1").ready();
    let reply = Browser::new().raw(&auto, "GET", "/set?k=a&v=1", forwarded);
    assert!(reply.set_cookies()[0].contains("; Secure"));
    let never = Start::memory("node1").args(&["--secure", "never"]).ready();
    let reply = Browser::new().raw(&never, "GET", "/set?k=a&v=1", forwarded);
    assert!(!reply.set_cookies()[0].contains("Secure"));
}

/// C-17.
#[test]
fn the_id_travels_in_a_header_if_the_flag_names_one_and_only_then() {
    let node = Start::memory("node1")
        .args(&["--id-header", "X-Session-Id"])
        .ready();
    let mut client = Browser::new();
    let reply = client.raw(&node, "GET", "/set?k=a&v=1", b"");
    let id = reply.header("x-session-id").expect("an id").to_owned();
    assert!(reply.set_cookies()[0].starts_with(&format!("JSESSIONID={id};")));
    let with_id = |id: &str| format!("x-session-id: {id}\r\n").into_bytes();
    let reply = client.raw(&node, "GET", "/get?k=a", &with_id(&id));
    assert_eq!(reply.json()["value"], "1");
    assert!(reply.set_cookies().is_empty());
    let reply = client.raw(&node, "GET", "/logout", &with_id(&id));
    assert_eq!(reply.header("x-session-id"), Some(""));
    let reply = client.raw(&node, "GET", "/get?k=a", &with_id(&id));
    assert_eq!(reply.json()["value"], Value::Null);

    let node = self::node();
    let mut browser = Browser::new();
    let reply = browser.get(&node, "/set?k=a&v=1");
    assert_eq!(reply.header("x-session-id"), None);
    let id = browser.cookie().expect("a cookie").to_owned();
    let reply = client.raw(&node, "GET", "/get?k=a", &with_id(&id));
    assert_eq!(reply.json()["value"], Value::Null);
}

#[test]
fn every_path_answers_get_and_post_with_json_that_names_the_node() {
    let node = node();
    let paths = [
        "/none",
        "/info",
        "/has?k=a",
        "/get?k=a",
        "/set?k=a&v=1",
        "/remove?k=a",
        "/incr",
        "/update",
        "/login?uid=u",
        "/rotate",
        "/logout",
        "/logout-user?uid=u",
        "/sessions?uid=u",
        "/peek?key=000000000000000000000000",
        "/end?key=000000000000000000000000",
        "/take?k=a",
        "/try_update?k=a&max=1",
        "/quiet?k=a",
        "/status?code=200",
        "/ttl?s=5",
        "/slow?ms=1",
        "/err?status=418&k=a&v=1",
        "/panic?k=a&v=1",
        "/stream?ms=1&k=a&v=1",
        "/spawn?ms=1&k=a&v=1",
        "/badattr?k=a&v=1",
        "/cluster",
        "/health",
        "/no-such-path",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            let reply = Browser::new().raw(&node, method, path, b"");
            assert_eq!(reply.json()["node"], "node1", "{method} {path}");
            assert_eq!(
                reply.header("content-type"),
                Some("application/json"),
                "{method} {path}"
            );
            if reply.status >= 400 && reply.status != 418 {
                assert!(reply.json()["error"].is_string(), "{method} {path}");
                assert!(reply.json()["message"].is_string(), "{method} {path}");
            }
        }
    }
}

#[test]
fn without_a_session_everything_is_empty_and_nothing_is_set() {
    let node = node();
    let nothing = |path: &str, expected: Value| {
        let reply = Browser::new().get(&node, path);
        assert_eq!((reply.status, reply.json()), (200, expected), "{path}");
        assert!(reply.set_cookies().is_empty(), "{path}");
    };
    let info = json!({
        "node": "node1", "session": false, "new": null, "key": null, "names": [], "uid": null,
        "created_at": null, "last_accessed_at": null, "max_inactive_secs": null,
        "requested_route": null,
    });
    nothing("/info", info);
    nothing(
        "/has?k=a",
        json!({"node": "node1", "session": false, "has": null}),
    );
    nothing(
        "/get?k=a",
        json!({"node": "node1", "session": false, "value": null}),
    );
    nothing("/remove?k=a", json!({"node": "node1", "session": false}));
    nothing(
        "/logout",
        json!({"node": "node1", "session": false, "ended": 0}),
    );
    nothing("/none", json!({"node": "node1"}));
}

#[test]
fn what_a_session_is_can_be_read() {
    let node = node();
    let mut browser = Browser::new();
    browser.ok(&node, "/login?uid=ann");
    browser.ok(&node, "/set?k=a&v=1");
    let info = browser.ok(&node, "/info");
    assert_eq!(info["session"], true);
    assert_eq!(info["new"], false);
    assert_eq!(info["names"], json!(["a", "uid"]));
    assert_eq!(info["requested_route"], "node1");
    assert_eq!(
        (&info["uid"], &info["max_inactive_secs"]),
        (&json!("ann"), &json!(1800))
    );
    let key = info["key"].as_str().expect("a key");
    assert!(key.len() == 24 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    let created = info["created_at"].as_u64().expect("a time");
    assert!(created > 1_700_000_000_000 && info["last_accessed_at"].as_u64() >= Some(created));
    browser.ok(&node, "/update");
    assert_eq!(
        browser.ok(&node, "/get?k=session_counter&as=u64")["value"],
        1
    );
}

#[test]
fn errors_have_the_documented_status() {
    let node = node();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let expected = [
        ("/get", 400),
        ("/set?k=a", 400),
        ("/set?v=a", 400),
        ("/login", 400),
        ("/ttl", 400),
        ("/ttl?s=soon", 400),
        ("/slow", 400),
        ("/err?k=a&v=1", 400),
        ("/err?status=7&k=a&v=1", 400),
        ("/get?k=a&as=f32", 400),
        ("/logout-user", 400),
        ("/sessions", 400),
        ("/peek?key=0", 400),
        ("/end", 400),
        ("/try_update?k=b", 400),
        ("/status?code=7", 400),
        ("/get?k=a&as=u64", 500),
        ("/badattr?k=b&v=1", 500),
        ("/set?k=a&bytes=17000000", 413),
        ("/no-such-path", 404),
    ];
    for (path, status) in expected {
        let reply = browser.get(&node, path);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert!(reply.json()["error"].is_string(), "{path}");
    }
    assert_eq!(
        Browser::new().get(&node, "/rotate").json()["error"],
        "no_session"
    );
    assert_eq!(browser.raw(&node, "DELETE", "/info", b"").status, 405);
}

#[test]
fn a_node_alone_describes_itself_as_a_cluster_of_one() {
    let node = node();
    Browser::new().ok(&node, "/set?k=a&v=1");
    let cluster = node.cluster();
    assert_eq!(cluster["clustered"], false);
    assert_eq!(cluster["ready"], true);
    assert_eq!(
        (&cluster["sessions"], &cluster["copies"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(cluster["members"][0]["route"], "node1");
    for number in [
        "tombstones",
        "bytes",
        "under_replicated",
        "degraded_acks",
        "turnovers",
    ] {
        assert!(cluster[number].is_u64(), "{number}");
    }
}

/// Cases 5, 6, C-14, over a real socket.
#[test]
fn a_path_that_never_takes_the_session_shows_nothing_of_it() {
    let node = node();
    let mut browser = Browser::new();
    let first = browser.get(&node, "/set?k=a&v=1");
    assert_eq!(
        first.header("cache-control"),
        Some("no-cache=\"Set-Cookie\"")
    );
    for mut browser in [browser, Browser::new()] {
        let reply = browser.get(&node, "/none");
        for header in ["set-cookie", "vary", "cache-control"] {
            assert_eq!(reply.header(header), None);
        }
        assert_eq!(
            browser.get(&node, "/get?k=a").header("vary"),
            Some("Cookie")
        );
    }
}

/// Case 9: garbage does not fill the log.
#[test]
fn garbage_is_not_worth_a_line_of_log_each() {
    let node = node();
    let quiet = node.log().lines().count();
    let mut browser = Browser::new();
    for round in 0..200 {
        let header = format!("Cookie: JSESSIONID=garbage-{round}\r\n");
        assert_eq!(
            browser.raw(&node, "GET", "/info", header.as_bytes()).status,
            200
        );
    }
    let log = node.log();
    assert!(!log.contains("garbage-"), "{log}");
    assert!(log.lines().count() - quiet <= 20, "{log}");
}

/// C-10. A header over the server's own limit is refused with 431; below it our cookie is found
/// behind all the others, and the work grows with the input, not with its square.
#[test]
fn our_cookie_is_found_behind_thousands_of_others() {
    let node = node();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let ours = format!("JSESSIONID={}", browser.cookie().expect("a cookie"));
    let crowd = |count: usize| -> Vec<u8> {
        let others: String = (0..count).map(|n| format!("c{n:05}=1; ")).collect();
        format!("Cookie: {others}{ours}\r\n").into_bytes()
    };
    let mut work = |header: &[u8]| {
        let before = node.cpu_time();
        for _ in 0..10 {
            let reply = browser.raw(&node, "GET", "/get?k=a", header);
            assert_eq!((reply.status, &reply.json()["value"]), (200, &json!("1")));
        }
        node.cpu_time() - before
    };
    let (half, whole) = (crowd(19_000), crowd(38_000));
    assert!(whole.len() > 370_000);
    // In turns: what else the machine does slows down both.
    let (mut short, mut long) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..10 {
        short += work(&half);
        long += work(&whole);
    }
    // Twice as much if it is linear, four times as much with its square.
    assert!(
        long < 3 * short + Duration::from_millis(40),
        "{short:?} became {long:?}"
    );

    let mut refused = Browser::new();
    let header = crowd(80_000);
    match refused.try_raw(&node, "GET", "/get?k=a", &header) {
        Ok(reply) => assert_eq!(reply.status, 431),
        // The server closes while the header is still being sent.
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut),
    }
    assert_eq!(refused.get(&node, "/health").status, 200);
}

/// C-12, for a whole life of sessions at the finest log level.
#[test]
fn no_id_reaches_the_log_or_a_body() {
    let node = Start::memory("node1").log("trace").ready();
    let mut secrets = Vec::new();
    let mut bodies = String::new();
    for round in 0..5 {
        let mut browser = Browser::new();
        for path in [
            "/set?k=a&v=1",
            "/info",
            "/get?k=a",
            "/get?k=a&as=u64",
            "/update",
            "/login?uid=u",
            "/badattr?k=b&v=1",
            "/panic?k=a&v=2",
            "/err?status=500&k=a&v=3",
            "/set?k=a&bytes=17000000",
            "/stream?ms=1&k=a&v=1",
            "/spawn?ms=1&k=a&v=1",
            "/rotate",
            "/cluster",
            "/logout",
        ] {
            bodies.push_str(&browser.get(&node, path).text());
            secrets.extend(browser.bare().map(|id| id[8..].to_owned()));
        }
        browser.set_cookie(format!("0123456789ABCDEF{round:024}.node1"));
        secrets.push(format!("{round:024}"));
        bodies.push_str(&browser.get(&node, "/get?k=a").text());
    }
    // The log has lines about sessions.
    node.wait_log("session");
    let log = node.log();
    secrets.sort_unstable();
    secrets.dedup();
    assert_eq!(secrets.len(), 5 * 4);
    for secret in &secrets {
        for text in [&log, &bodies] {
            assert!(
                !text.to_uppercase().contains(secret.as_str()),
                "{secret} is in {text}"
            );
        }
    }
}

/// 500 clients that leave in the middle, 200 panics.
#[test]
fn clients_that_leave_and_handlers_that_panic_leak_nothing() {
    let node = node();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let open_files = || {
        let files = fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("a process has files");
        files.count()
    };
    let before = open_files();
    for round in 0..500 {
        drop(browser.send_only(&node, &format!("/slow?ms={}&k=a&v={round}", round % 5)));
    }
    for _ in 0..200 {
        browser.get(&node, "/panic?k=a&v=1");
    }
    eventually("all connections are closed", || open_files() <= before + 5);
    browser.ok(&node, "/set?k=a&v=2");
    assert_eq!(browser.value(&node, "a").as_deref(), Some("2"));
    assert_eq!(node.sessions(), 1);
}

/// N-02's idea, for the HTTP port: a connection that is not HTTP is closed or answered 400, and no
/// other client is affected.
#[test]
fn what_is_not_http_disturbs_no_client() {
    let node = node();
    for garbage in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"PING\r\n\r\n",
        b"\0\0\0\0",
        b"GET / HTTP/9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.http).expect("it accepts");
        stream.write_all(garbage).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let mut answer = Vec::new();
        // A reset is an answer as well.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{answer:?}"
        );
    }
    assert_eq!(Browser::new().get(&node, "/none").status, 200);
}

/// K-14's idea, small: at the limit new sessions are refused, and no session is evicted.
#[test]
fn a_full_store_refuses_new_sessions_and_keeps_the_old_ones() {
    let node = Start::memory("node1")
        .args(&["--max-sessions", "3"])
        .ready();
    let mut kept: Vec<_> = (0..3).map(|_| Browser::new()).collect();
    for browser in &mut kept {
        browser.ok(&node, "/set?k=a&v=1");
    }
    let mut late = Browser::new();
    let refused = late.get(&node, "/set?k=a&v=1");
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (503, &json!("full"))
    );
    assert!(refused.set_cookies().is_empty());
    for browser in &mut kept {
        browser.ok(&node, "/set?k=a&v=2");
        assert_eq!(browser.value(&node, "a").as_deref(), Some("2"));
    }
    kept[0].ok(&node, "/logout");
    late.ok(&node, "/set?k=a&v=1");
}

/// 60 (i), K-03: 503 at once, known sessions still served, then an orderly end.
#[test]
fn asked_to_end_a_node_says_so_serves_on_and_exits_zero() {
    let mut node = Start::memory("node1").args(&["--drain-wait", "8"]).ready();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let asked = Instant::now();
    node.signal("TERM");
    // Well before the end of the wait.
    within(Duration::from_secs(5), "`/health` answers 503", || {
        !node.is_ready()
    });
    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
    let status = node.wait_end();
    assert!(status.success(), "{status}");
    assert!(
        asked.elapsed() >= Duration::from_secs(8),
        "it waited {:?}",
        asked.elapsed()
    );
}

/// 60 (i), K-03. A request that is being served when the node is asked to end is answered.
#[test]
fn a_request_in_flight_is_answered_before_the_end() {
    let start = Start::memory("node1").args(&["--drain-wait", "0"]);
    let mut node = start.ready();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    scope(|threads| {
        let slow = threads.spawn(|| browser.get(&node, "/slow?ms=3000&k=a&v=2"));
        node.wait_log("a slow request has begun");
        node.signal("TERM");
        assert_eq!(slow.join().expect("it is answered").status, 200);
    });
    assert!(node.wait_end().success());
}

/// C-16, with 100 users and 3,000 requests: all on one HTTP/2 connection, a hundred of
/// them given up midway.
#[tokio::test(flavor = "multi_thread")]
async fn users_on_one_http2_connection_never_see_each_other() {
    let node = node();
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let users = (0..100).map(|number| {
        let (client, base) = (client.clone(), format!("http://{}", node.http));
        tokio::spawn(async move {
            let uid = format!("user{number}");
            let ask = |path: String, cookie: Option<String>| {
                let mut request = Request::get(format!("{base}{path}"));
                if let Some(cookie) = cookie {
                    request = request.header("cookie", cookie);
                }
                client.request(request.body(Empty::<Bytes>::new()).expect("a request"))
            };
            let login = ask(format!("/login?uid={uid}"), None)
                .await
                .expect("an answer");
            let cookie = login.headers()["set-cookie"].to_str().expect("text");
            let cookie = cookie.split(';').next().map(str::to_owned);
            for round in 0..30 {
                // More resets at once, and the server takes them for an attack.
                if round % 3 == 0 && number % 10 == 0 {
                    let path = format!("/slow?ms=5&k=round&v={round}");
                    let hurry = Duration::from_micros(100 * round);
                    let _ = timeout(hurry, ask(path, cookie.clone())).await;
                    continue;
                }
                let answer = ask("/info".to_owned(), cookie.clone())
                    .await
                    .expect("an answer");
                assert!(!answer.headers().contains_key("set-cookie"));
                let body = answer
                    .into_body()
                    .collect()
                    .await
                    .expect("a body")
                    .to_bytes();
                let info: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(info["uid"], uid);
            }
        })
    });
    for user in users.collect::<Vec<_>>() {
        user.await.expect("no user sees another");
    }
    assert_eq!(node.sessions(), 100);
}
