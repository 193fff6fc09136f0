//! Commands, links and sizes of the documentation. Its Rust examples are doc tests.
//!
//! Commands that a reader types first are run as printed, in a network namespace where the printed
//! ports are free, with the binaries that `cargo test` has built in place of `cargo run`. Of the
//! other commands the parts are checked: targets, features and test names must exist, and programs
//! must accept the arguments. A command of a kind that is not known here fails.

#[path = "../common/mod.rs"]
mod common;
mod process;
mod shell;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use common::namespace::{is_isolated, prepare};
use common::{Browser, Scratch, eventually};
use distributable::RedisStore;
use distributable::store::Secret;
use process::Process;
use shell::{command_lines, commands};
use workspace::Workspace;

#[test]
fn documented_commands_name_what_exists() {
    let workspace = Workspace::read();
    let mut checked = 0;
    for page in pages() {
        let mut variables = BTreeMap::new();
        for line in command_lines(&read(&page)) {
            for words in commands(&line) {
                checked += 1;
                if let Err(problem) = workspace.check(&words, &mut variables) {
                    panic!("{page}: `{line}`: {problem}");
                }
            }
        }
    }
    assert!(checked > 30, "the pages are read: {checked}");
}

/// The flags in the manifest for Kubernetes are those of the playground.
#[test]
fn the_flags_of_the_kubernetes_manifest_are_accepted() {
    let manifest = read("examples/balancers/kubernetes/nodes.yaml");
    let lines = manifest.lines().map(str::trim);
    let flags: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("- --"))
        .filter_map(|line| line.split_whitespace().next())
        .map(|flag| format!("--{flag}"))
        .collect();
    assert!(flags.iter().any(|flag| flag == "--store=replicated"));
    workspace::check_arguments("playground", &flags).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn the_example_of_the_readme_counts_on_after_a_kill() {
    if !is_isolated(the_example_of_the_readme_counts_on_after_a_kill) {
        return;
    }
    prepare();
    let line = line_with("README.md", "--example session_counter");
    let [mut one, mut two] = [1, 2].map(|_| Process::start(&line));
    let [first, second] = [one.address("Open http://"), two.address("Open http://")];
    let mut browser = Browser::new();
    let mut count = |node: SocketAddr| {
        let mut text = String::new();
        eventually("the node serves", || {
            let reply = browser.try_get(&node, "/").ok();
            text = reply
                .filter(|r| r.status == 200)
                .map_or_else(String::new, |r| r.text());
            !text.is_empty()
        });
        let (_, count) = text.split_once("Session Counter = ").expect("a count");
        count.split_once('<').expect("a tag").0.to_owned()
    };
    assert_eq!([count(first), count(second), count(first)], ["1", "2", "3"]);
    one.kill();
    assert_eq!(count(second), "4");
}

#[test]
fn the_commands_for_redis_count_on_both_nodes() {
    if !is_isolated(the_commands_for_redis_count_on_both_nodes) {
        return;
    }
    prepare();
    let folder = Scratch::new();
    let line = line_with("src/docs/redis.md", "redis-server");
    let mut server = Process::start_in(folder.path(), &line);
    let nodes =
        ["--route node1", "--route node2"].map(|route| line_with("src/docs/redis.md", route));
    let mut nodes = nodes.map(|line| Process::start(&line));
    for node in &mut nodes {
        node.address("listening on http://");
    }
    let mut browser = Browser::new();
    let mut counts = Vec::new();
    for url in command_lines(&read("src/docs/redis.md")) {
        let Some(url) = url.strip_prefix("curl -c jar -b jar http://") else {
            continue;
        };
        let (address, path) = url.split_once('/').expect("a path");
        let address: SocketAddr = address.parse().expect("an address");
        eventually("the node serves", || {
            let reply = browser.try_get(&address, "/health");
            reply.is_ok_and(|reply| reply.status == 200)
        });
        counts.push(browser.ok(&address, &format!("/{path}"))["n"].clone());
    }
    assert_eq!(counts, [1, 2]);
    server.kill();
}

/// The rules for the user of the sentinels are enough to find the primary and to follow it.
#[test]
fn the_documented_permissions_on_sentinels_are_enough() {
    if !is_isolated(the_documented_permissions_on_sentinels_are_enough) {
        return;
    }
    prepare();
    let folder = Scratch::new();
    let page = read("src/docs/redis.md");
    let rules = page
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER watcher "))
        .expect("the page has the rules");
    let configuration = format!(
        "port 26379\nuser default off\nuser watcher {rules}\n\
         sentinel monitor main 127.0.0.1 6379 1\n"
    );
    fs::write(folder.path().join("sentinel.conf"), configuration).expect("a file");
    let mut server = Process::start_in(folder.path(), "redis-server --port 6379 --save ''");
    let mut sentinel = Process::start_in(folder.path(), "redis-server sentinel.conf --sentinel");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut store = None;
    eventually("the sentinel names the primary", || {
        let builder = RedisStore::builder("redis-sentinel://127.0.0.1/main")
            .sentinel_credentials(Some("watcher"), "password");
        store = runtime.block_on(builder.connect()).ok();
        store.is_some()
    });
    eventually("the store has subscribed to changes", || {
        let clients = Command::new("redis-cli")
            .args(["-p", "26379", "--user", "watcher", "--pass", "password"])
            .args(["--no-auth-warning", "CLIENT", "LIST"])
            .output()
            .expect("there is redis-cli");
        String::from_utf8_lossy(&clients.stdout).contains(" sub=1 ")
    });
    drop(store);
    sentinel.kill();
    server.kill();
}

#[cfg(unix)]
#[test]
fn the_command_for_a_secret_makes_one() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Scratch::new();
    let line = line_with("src/docs/clustering.md", "openssl rand");
    let status = Command::new("sh")
        .args(["-c", &line])
        .current_dir(folder.path())
        .status();
    assert!(
        status.expect("there is a shell").success(),
        "apt-get install openssl"
    );
    let path = folder.path().join("secret");
    Secret::from_file(&path).expect("a secret");
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn links_and_file_names_lead_to_files() {
    let root = root();
    let guide: BTreeSet<_> = guide()
        .map(|page| page.trim_end_matches(".md").to_owned())
        .collect();
    for page in pages() {
        let text = read(&page);
        let file = root.join(&page);
        let folder = file.parent().expect("a page is in a folder");
        let targets = text.split("](").skip(1).chain(text.split("]: ").skip(1));
        for target in targets.filter_map(|rest| rest.split([')', '\n', ' ']).next()) {
            if let Some((_, rest)) = target.split_once("/distributable/guide/") {
                let name = rest.trim_end_matches('/');
                assert!(name.is_empty() || guide.contains(name), "{page}: {target}");
            } else if let Some(rest) = target.strip_prefix("super::") {
                let (name, anchor) = rest.split_once('#').unwrap_or((rest, ""));
                assert!(guide.contains(name), "{page}: {target}");
                check_anchor(&page, &format!("src/docs/{name}.md"), anchor);
            } else if !target.contains("::") && !target.contains("//") {
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = folder.join(path);
                assert!(path.exists(), "{page}: {target}");
                if path.is_file() {
                    let real = path.canonicalize().expect("it exists");
                    let page_of = real.strip_prefix(&root).expect("a file of this repository");
                    check_anchor(&page, &page_of.to_string_lossy(), anchor);
                } else if !anchor.is_empty() {
                    check_anchor(&page, &page, anchor);
                }
            }
        }
        // Files that the text names, below the root or `src`.
        for name in text.split('`').skip(1).step_by(2) {
            let is_file = name.contains('/') && (name.ends_with(".rs") || name.ends_with(".yaml"));
            if is_file && !name.contains(' ') {
                let found = [
                    root.join(name),
                    root.join("src").join(name),
                    folder.join(name),
                ];
                assert!(found.iter().any(|path| path.exists()), "{page}: {name}");
            }
        }
    }
}

#[test]
fn the_readme_is_short() {
    let readme = read("README.md");
    let (lines, words) = (readme.lines().count(), readme.split_whitespace().count());
    assert!(
        lines <= 170 && words <= 1_100,
        "{lines} lines, {words} words"
    );
}

/// A page has a heading for this anchor.
fn check_anchor(from: &str, page: &str, anchor: &str) {
    let slug = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let text = read(page);
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    assert!(
        anchor.is_empty() || headings.any(|heading| slug(heading) == anchor),
        "{from}: {page} has no heading #{anchor}"
    );
}

fn pages() -> Vec<String> {
    let fixed = [
        "README.md",
        ".github/CONTRIBUTING.md",
        ".github/SECURITY.md",
        "benches/README.md",
        "benches/failover/README.md",
        "examples/balancers/README.md",
        "examples/shop/README.md",
    ];
    fixed
        .into_iter()
        .map(str::to_owned)
        .chain(guide().map(|page| format!("src/docs/{page}")))
        .collect()
}

/// File names of the guide's pages.
fn guide() -> impl Iterator<Item = String> {
    let folder = root().join("src/docs").read_dir().expect("a folder");
    let names = folder.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md"))
}

/// The one command line of a page that contains `part`.
fn line_with(page: &str, part: &str) -> String {
    let lines = command_lines(&read(page)).into_iter();
    let mut found = lines.filter(|line| line.contains(part));
    let line = found
        .next()
        .unwrap_or_else(|| panic!("{page} has no command with `{part}`"));
    assert_eq!(found.next(), None, "{page} has one command with `{part}`");
    line
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
