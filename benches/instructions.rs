//! Instructions that a session adds to a request.
//!
//! Run with: `cargo bench --bench instructions` (needs valgrind)
//!
//! The benchmark runs itself under `valgrind --tool=callgrind`: a router, called in process, N
//! times and 2N times; the difference over N is one request. Counts do not depend on the load of
//! the machine. Valgrind hides the processor's SHA instructions, so hashing the id costs more here
//! than elsewhere; it is reported separately.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::process::Command;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use distributable::SessionId;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::apps::{App, Page, cookie};

mod apps;

const REQUESTS: usize = 2_000;
const SESSIONS: usize = 100;
const HOST: &str = "shop.example";
const TARGETS: [i64; 3] = [2_500, 6_500, 9_000];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[1..] {
        ["--child", "hash", count] => hash(count.parse()?),
        ["--child", app, page, count] => serve(app.parse()?, page.parse()?, count.parse()?).await,
        _ => compare(),
    }
}

fn compare() -> Result<()> {
    println!("instructions per request, and how many more than without sessions");
    println!(
        "{:16} {:>18} {:>18} {:>18}",
        "", "untouched", "read", "counter"
    );
    let mut plain = [0; 3];
    for app in App::ALL {
        print!("{:16}", app.name());
        for (page, plain) in Page::ALL.into_iter().zip(&mut plain) {
            let count = per_item(&[app.name(), page.name()])?;
            if app == App::Plain {
                *plain = count;
            }
            print!(" {count:>9} {:>+8}", count - *plain);
        }
        println!();
    }
    print!("{:16}", "target");
    for target in TARGETS {
        print!(" {:>9} {target:>+8}", "");
    }
    println!("\nreading an id and hashing it: {}", per_item(&["hash"])?);
    Ok(())
}

/// The instructions of one request (or hash), as the difference of two runs.
fn per_item(what: &[&str]) -> Result<i64> {
    let once = collected(what, REQUESTS)?;
    let twice = collected(what, 2 * REQUESTS)?;
    Ok((twice - once) / REQUESTS as i64)
}

fn collected(what: &[&str], count: usize) -> Result<i64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .arg("--child")
        .args(what)
        .arg(count.to_string())
        .output()
        .map_err(|error| format!("valgrind: {error}; try: apt-get install valgrind"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let total = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match total {
        Some((_, total)) if output.status.success() => Ok(total.trim().parse()?),
        _ => Err(report.into()),
    }
}

async fn serve(app: App, page: Page, count: usize) -> Result<()> {
    let router = app.router();
    let mut cookies = Vec::new();
    for _ in 0..SESSIONS {
        let headers = request(&router, Page::Counter, None).await?;
        cookies.push(cookie(&headers));
    }
    for turn in 0..count {
        request(&router, page, Some(&cookies[turn % SESSIONS])).await?;
    }
    Ok(())
}

async fn request(router: &Router, page: Page, cookie: Option<&str>) -> Result<HeaderMap> {
    let mut request = Request::get(page.path()).header(header::HOST, HOST);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let response = router.clone().oneshot(request.body(Body::empty())?).await?;
    assert!(response.status().is_success());
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let is_known = cookie.is_some();
    assert!(!is_known || page.is_kept(&body), "the session is lost");
    Ok(head.headers)
}

fn hash(count: usize) -> Result<()> {
    let text = SessionId::generate().expose();
    for _ in 0..count {
        let id = SessionId::parse(black_box(text.as_bytes()));
        black_box(id.map(|id| (id.key(), id.hash())));
    }
    Ok(())
}
