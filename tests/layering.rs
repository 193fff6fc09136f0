//! The table of allowed imports between folders, compared with every path in `src`.
//!
//! The test reads every path, in `use` lines and in code, resolves `self` and `super`, and looks it
//! up in the table. Test modules may import anything. A file that no row covers fails, and so does
//! a row that covers no file. The test also finds files that import each other and types of the
//! same name, and counts the lines of every file.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// What the files below `folder` may name, besides the folder itself. The longest row counts.
struct Row {
    /// `a` is `a.rs` and everything below `a/`; `a/mod` is that file alone.
    folder: &'static str,
    modules: &'static [&'static str],
    crates: &'static [&'static str],
}

/// The arrows of the picture in the crate's documentation.
const TABLE: &[Row] = &[
    Row {
        folder: "lib",
        modules: &[
            "bridge",
            "cluster",
            "error",
            "events",
            "middleware",
            "session",
            "store",
        ],
        crates: &[],
    },
    // Tests of applications: around everything but the cluster.
    Row {
        folder: "testing",
        modules: &[
            "clock",
            "error",
            "events",
            "session",
            "store::SessionStore",
            "store::testing",
            "store::users",
            "watch",
        ],
        crates: &["http"],
    },
    // Another layer in the place of `middleware`.
    Row {
        folder: "bridge",
        modules: &[
            "clock",
            "error",
            "middleware::limits",
            "session",
            "store::SessionStore",
            "store::erased",
        ],
        crates: &[
            "async_trait",
            "serde_json",
            "sha2",
            "tokio",
            "tower_sessions_core",
            "tower_sessions_core_0_15",
            "tracing",
        ],
    },
    Row {
        folder: "error",
        modules: &[],
        crates: &[],
    },
    Row {
        folder: "error/session",
        modules: &["error", "session"],
        crates: &["http"],
    },
    Row {
        folder: "events",
        modules: &["session"],
        crates: &["tokio"],
    },
    Row {
        folder: "watch",
        modules: &["session"],
        crates: &[],
    },
    // Only documentation.
    Row {
        folder: "docs",
        modules: &[],
        crates: &[],
    },
    // Code that is shown, and compiled by `tests/recipes`.
    Row {
        folder: "docs/recipes",
        modules: &["shop"],
        crates: &["http", "rand", "serde", "subtle", "tokio", "tracing"],
    },
    Row {
        folder: "clock",
        modules: &["session"],
        crates: &["rustix", "tokio"],
    },
    Row {
        folder: "sync",
        modules: &[],
        crates: &[],
    },
    Row {
        folder: "shutdown",
        modules: &[],
        crates: &["tokio", "tracing"],
    },
    Row {
        folder: "session",
        modules: &[],
        crates: &["ecow", "serde", "serde_json", "sha2"],
    },
    // The one file that asks the operating system for random numbers.
    Row {
        folder: "session/id",
        modules: &["session"],
        crates: &["rand", "serde", "sha2", "subtle"],
    },
    Row {
        folder: "middleware",
        modules: &[
            "clock",
            "error",
            "session",
            "store::SessionStore",
            "store::erased",
            "store::typed",
            "store::users",
        ],
        crates: &[
            "axum_core",
            "bytes",
            "cookie",
            "http",
            "http_body",
            "memchr",
            "pin_project_lite",
            "serde",
            "tokio",
            "tower_layer",
            "tower_service",
            "tracing",
        ],
    },
    Row {
        folder: "store/mod",
        modules: &["cluster", "watch"],
        crates: &[],
    },
    // The trait, whose calls for users and by key are written in files of their own.
    Row {
        folder: "store/session_store",
        modules: &[
            "error",
            "events",
            "session",
            "store::typed",
            "store::users",
            "watch",
        ],
        crates: &["serde"],
    },
    Row {
        folder: "store/typed",
        modules: &["error", "session", "store::erased"],
        crates: &["serde", "tokio"],
    },
    Row {
        folder: "store/erased",
        modules: &["error", "session", "watch"],
        crates: &[],
    },
    // The only file that needs both traits.
    Row {
        folder: "store/boxed",
        modules: &["session", "store::SessionStore", "store::erased", "watch"],
        crates: &[],
    },
    Row {
        folder: "store/record_bytes",
        modules: &["clock", "error", "session"],
        crates: &[],
    },
    Row {
        folder: "store/users",
        modules: &["clock", "error", "session", "store::erased"],
        crates: &["tracing"],
    },
    Row {
        folder: "store/testing",
        modules: &[
            "error",
            "session",
            "store::SessionStore",
            "store::erased",
            "store::users",
        ],
        crates: &["tokio"],
    },
    // Between snapshots and the stores that they save.
    Row {
        folder: "store/export",
        modules: &["session"],
        crates: &["serde"],
    },
    Row {
        folder: "store/memory",
        modules: &[
            "clock",
            "error",
            "events",
            "session",
            "store::SessionStore",
            "watch",
        ],
        crates: &["tokio", "tracing"],
    },
    Row {
        folder: "store/memory/export",
        modules: &["error", "session", "store::export", "store::memory"],
        crates: &[],
    },
    Row {
        folder: "store/snapshot",
        modules: &[
            "clock",
            "error",
            "events",
            "session",
            "store::export",
            "store::memory::MemoryStore",
            "store::SessionStore",
            "store::users",
            "watch",
        ],
        crates: &[
            "chacha20poly1305",
            "postcard",
            "rand",
            "rustix",
            "serde",
            "tokio",
            "tracing",
            "xxhash_rust",
        ],
    },
    Row {
        folder: "store/snapshot/replicated",
        modules: &[
            "cluster",
            "session",
            "store::export",
            "store::replicated::ReplicatedStore",
            "store::snapshot",
        ],
        crates: &[],
    },
    Row {
        folder: "store/replicated",
        modules: &[
            "clock",
            "cluster",
            "error",
            "events",
            "session",
            "store::SessionStore",
            "watch",
        ],
        crates: &["tokio", "tracing"],
    },
    Row {
        folder: "store/redis",
        modules: &["clock", "error", "events", "session", "store::SessionStore"],
        crates: &[
            "chacha20poly1305",
            "rand",
            "redis",
            "rustls_native_certs",
            "sha2",
            "socket2",
            "tokio",
            "tokio_rustls",
            "tracing",
        ],
    },
    Row {
        folder: "cluster",
        modules: &["clock", "error", "events", "session", "watch"],
        crates: &["bytes", "postcard", "rand", "serde", "tokio", "tracing"],
    },
    Row {
        folder: "cluster/wire",
        modules: &["cluster::copies", "cluster::replica", "session"],
        crates: &["postcard", "serde"],
    },
    // Three parts of the cluster pass input to the driver, which is above them: discovery, and the
    // two files of the transport that have rows of their own.
    Row {
        folder: "cluster/discovery",
        modules: &[
            "clock",
            "cluster::driver",
            "cluster::secret",
            "cluster::throttle",
            "cluster::transport",
        ],
        crates: &["ring", "socket2", "tokio", "tracing"],
    },
    Row {
        folder: "cluster/transport/dial",
        modules: &[
            "cluster::driver",
            "cluster::replica",
            "cluster::transport",
            "cluster::wire",
        ],
        crates: &["bytes", "tokio"],
    },
    Row {
        folder: "cluster/transport/listen",
        modules: &[
            "clock",
            "cluster::driver",
            "cluster::replica",
            "cluster::throttle",
            "cluster::transport",
            "cluster::wire",
        ],
        crates: &["bytes", "tokio"],
    },
    // The folder that speaks TLS.
    Row {
        folder: "cluster/transport",
        modules: &[
            "clock",
            "cluster::replica",
            "cluster::secret",
            "cluster::throttle",
            "cluster::wire",
            "session",
        ],
        crates: &["bytes", "ring", "tokio", "tokio_rustls", "tracing"],
    },
    // To start a node is to get a store: the only arrow that points up.
    Row {
        folder: "cluster/builder",
        modules: &[
            "clock",
            "cluster",
            "error",
            "session",
            "store::replicated::ReplicatedStore",
        ],
        crates: &["rand", "tokio", "tracing"],
    },
    Row {
        folder: "cluster/builder/tls",
        modules: &["cluster"],
        crates: &["tokio_rustls"],
    },
    Row {
        folder: "cluster/replica",
        modules: &[
            "cluster::ack",
            "cluster::copies",
            "error",
            "session",
            "watch",
        ],
        crates: &["bytes", "foca", "rand", "serde", "xxhash_rust"],
    },
];

/// The functions that every file may use: they take locks.
const EVERYWHERE: &str = "sync";

/// Folders without IO, threads and clocks, whose behavior follows from their arguments alone.
const PURE: &[&str] = &["session", "cluster/replica"];

/// What is impure in the standard library.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Types that share a name, and why.
const SAME_NAMES: &[(&str, &str)] = &[];

/// Names of the standard library's prelude that a type could have.
const PRELUDE: &[&str] = &[
    "AsMut", "AsRef", "Box", "Clone", "Copy", "Default", "Drop", "Eq", "Extend", "Fn", "FnMut",
    "FnOnce", "From", "Into", "Iterator", "Option", "Ord", "Result", "Send", "Sized", "String",
    "Sync", "ToOwned", "ToString", "TryFrom", "TryInto", "Unpin", "Vec",
];

/// The longest file, in lines. A longer one is about more than one thing.
const LINES_MAX: usize = 400;

#[test]
fn every_path_follows_the_table() {
    let crates = dependencies();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for key in files("") {
        if key.split('/').any(|part| part == "tests" || part == "sim") {
            continue;
        }
        let rows = TABLE.iter().filter(|row| is_below(&key, row.folder));
        let Some(row) = rows.max_by_key(|row| row.folder.len()) else {
            wrong.push(format!("{key}: no row of the table covers it"));
            continue;
        };
        used.insert(row.folder);
        for path in paths(&key, &read(&format!("src/{key}.rs"))) {
            if !is_allowed(&path, row, &crates) {
                wrong.push(format!("{key}: {}", path.join("::")));
            }
        }
    }
    for row in TABLE.iter().filter(|row| !used.contains(row.folder)) {
        wrong.push(format!("{}: no file is covered by this row", row.folder));
    }
    assert!(wrong.is_empty(), "against the table:\n{}", wrong.join("\n"));
}

/// A file that is below another one can be read without it.
#[test]
fn no_files_import_each_other() {
    let all: Vec<_> = files("").filter(|key| !is_test(key)).collect();
    let imports: BTreeMap<_, _> = all.iter().map(|key| (module(key), imports(key))).collect();
    let circles = circles(&imports);
    let circles: Vec<_> = circles.iter().map(|path| path.join("::")).collect();
    assert!(circles.is_empty(), "in circles:\n{}", circles.join("\n"));
}

#[test]
fn circles_are_found() {
    let path = |name: &str| vec![name.to_owned()];
    let row = |from: &str, to: &str| (path(from), to.split(' ').map(path).collect());
    let open = BTreeMap::from([
        row("a", "b c"),
        row("b", "c d"),
        row("c", "d"),
        row("d", ""),
    ]);
    assert_eq!(circles(&open), Vec::<ModulePath>::new());
    let closed = BTreeMap::from([row("a", "b"), row("b", "c d"), row("c", "d"), row("d", "b")]);
    assert_eq!(circles(&closed), ["b", "c", "d"].map(path));
}

/// A search for a type finds one.
#[test]
fn no_two_types_share_a_name() {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in files("").filter(|key| !is_test(key)) {
        for name in types(&read(&format!("src/{key}.rs"))) {
            homes.entry(name).or_default().push(key.clone());
        }
    }
    assert!(homes.len() > 300, "the types are found: {}", homes.len());
    for name in PRELUDE {
        let home = homes.get(*name);
        assert!(home.is_none(), "`{name}` is in every file: {home:?}");
    }
    let wrong: Vec<_> = homes
        .iter()
        .filter(|(name, homes)| {
            let exception = SAME_NAMES.iter().find(|(same, _)| same == name);
            assert!(exception.is_none() || homes.len() > 1, "one `{name}`");
            exception.is_none() && homes.len() > 1
        })
        .map(|(name, homes)| format!("{name}: {}", homes.join(", ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn types_are_found() {
    let source = "
        pub struct A<T>(T);
        pub(crate) enum B {}
        struct C;
        // struct D;
        trait E { type F; }
        type G = C;
        impl E for C { type F = (); }
        mod tests { struct H; }
        pin_project! { pub struct K {} }
        const I: &str = \"struct J;\";
    ";
    let found: Vec<_> = types(source).collect();
    assert_eq!(found, ["A", "B", "C", "E", "G", "K"]);
}

/// Paths of the crate are written from its root, and visibility is the crate or the module.
#[test]
fn paths_are_written_from_the_root() {
    let mut wrong = Vec::new();
    for key in files("") {
        let source = read(&format!("src/{key}.rs"));
        for (number, line) in source.lines().enumerate() {
            let found = ["super::super", "pub(in "]
                .into_iter()
                .find(|it| line.contains(it));
            // An import at the beginning of a line is one of the file's own module.
            let is_outer = !line.starts_with([' ', '\t', '/']);
            let is_import = is_outer && line.contains("use super::") && !line.contains("super::*");
            let import = (is_import && !is_test(&key)).then_some("use super::");
            wrong.extend(
                found
                    .or(import)
                    .map(|what| format!("{key}:{}: {what}", number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_short() {
    let lines = |key: &String| read(&format!("src/{key}.rs")).lines().count();
    let long = files("").filter(|key| lines(key) > LINES_MAX);
    let wrong: Vec<_> = long
        .map(|key| format!("{key}: {} lines", lines(&key)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_replica_is_held_to_its_rules_by_clippy_too() {
    let source = read("src/cluster/replica/mod.rs");
    assert!(source.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]"));
    for key in files("").filter(|key| is_below(key, "cluster/replica")) {
        let waits = |token: &String| token == "async" || token == "await";
        assert!(
            !tokens(&read(&format!("src/{key}.rs"))).iter().any(waits),
            "{key} waits"
        );
    }
}

#[test]
fn the_reader_of_paths_sees_all_of_them() {
    let source = r##"
        //! crate::comment
        use std::{fmt, io::{self, Write as _}};
        use super::{a::*, b::{c, d}};
        pub(crate) use crate::e::f; /* crate::comment */
        mod inline { use super::g; fn f<'a>(x: &'a str) { crate::h::<u8>(self::i::j, "crate::k", 'c'); } }
        mod tests { use crate::test_only; }
        macro_rules! m { () => { tokio::spawn(r#"tokio::"fs"#) } }
        fn last() -> super::super::l::M { x.await.crate_like(b'"') }
    "##;
    let found: Vec<_> = paths("x/y", source).iter().map(|p| p.join("::")).collect();
    let expected = [
        "std::fmt",
        "std::io",
        "std::io::Write",
        "crate::x::a",
        "crate::x::b::c",
        "crate::x::b::d",
        "crate::e::f",
        "crate::x::y::g",
        "crate::h",
        "crate::x::y::inline::i::j",
        "tokio::spawn",
        "crate::l::M",
    ];
    assert_eq!(found, expected);
}

type ModulePath = Vec<String>;

/// Returns the names of the types that a file defines outside its functions and inline modules.
fn types(source: &str) -> impl Iterator<Item = String> {
    let tokens = tokens(source);
    let (mut last, mut found) = ("", Vec::new());
    // The open braces: whether each is the one of a macro, which hides nothing.
    let mut braces = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0].as_str() {
            "{" => braces.push(last == "!"),
            "}" => {
                braces.pop();
            }
            "enum" | "struct" | "trait" | "type" | "union"
                if braces.iter().all(|open| *open) && is_word(&pair[1]) =>
            {
                found.push(pair[1].clone());
            }
            _ => {}
        }
        last = &pair[0];
    }
    found.into_iter()
}

/// Returns the modules that import themselves through others.
fn circles(imports: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<ModulePath> {
    let is_in_circle = |start: &&ModulePath| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
        while let Some(from) = next.pop() {
            for to in imports.get(from).into_iter().flatten() {
                if to == *start {
                    return true;
                }
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        false
    };
    imports.keys().filter(is_in_circle).cloned().collect()
}

/// Returns the modules from which a file takes names. A module and what is in its folder are one
/// thing seen from outside, so paths between them do not count.
fn imports(key: &str) -> BTreeSet<ModulePath> {
    let mine = module(key);
    let found = own_paths(key).iter().filter_map(home);
    let is_other = |to: &ModulePath| !to.starts_with(&mine) && !mine.starts_with(to);
    found.filter(is_other).collect()
}

/// Returns the module in which a name is defined, through the modules that pass it on.
fn home(path: &ModulePath) -> Option<ModulePath> {
    let modules = modules();
    let length = (1..=path.len())
        .rev()
        .find(|n| modules.contains_key(&path[..*n]))?;
    let (module, rest) = path.split_at(length);
    let key = &modules[module];
    let name = rest.first()?;
    let passed_on = own_paths(key).iter().find(|from| {
        key.ends_with("mod")
            && from.len() > length
            && from.starts_with(module)
            && from.last() == Some(name)
    });
    match passed_on {
        Some(from) if from != path => home(from),
        _ => Some(module.to_vec()),
    }
}

/// Returns the paths of a file that begin at our root, those through an imported module included.
fn own_paths(key: &str) -> &'static [ModulePath] {
    static PATHS: OnceLock<BTreeMap<String, Vec<ModulePath>>> = OnceLock::new();
    let all = || {
        files("")
            .map(|key| (key.clone(), read_own_paths(&key)))
            .collect()
    };
    &PATHS.get_or_init(all)[key]
}

fn read_own_paths(key: &str) -> Vec<ModulePath> {
    let modules = modules();
    let mine = module(key);
    let mut all = paths(key, &read(&format!("src/{key}.rs")));
    let imported: Vec<_> = all
        .iter()
        .filter(|path| modules.contains_key(*path))
        .cloned()
        .collect();
    for path in &mut all {
        let first = path[0].clone();
        let child = [mine.as_slice(), std::slice::from_ref(&first)].concat();
        let alias = imported.iter().find(|module| module.last() == Some(&first));
        let start = modules.contains_key(&child).then_some(&child).or(alias);
        if let Some(start) = start.filter(|_| first != "crate") {
            *path = [start.as_slice(), &path[1..]].concat();
        }
    }
    all.retain(|path| path[0] == "crate");
    all
}

/// Returns the files of the modules.
fn modules() -> &'static BTreeMap<ModulePath, String> {
    static MODULES: OnceLock<BTreeMap<ModulePath, String>> = OnceLock::new();
    MODULES.get_or_init(|| files("").map(|key| (module(&key), key)).collect())
}

fn module(key: &str) -> ModulePath {
    let file = key.trim_end_matches("/mod").split('/');
    let file = file.filter(|part| *part != "lib").map(str::to_owned);
    std::iter::once("crate".to_owned()).chain(file).collect()
}

fn is_test(key: &str) -> bool {
    let is_test =
        |part: &str| part == "tests" || part.ends_with("_tests") || part.starts_with("test_");
    key.split('/').any(is_test) || is_below(key, "docs")
}

fn is_allowed(path: &ModulePath, row: &Row, crates: &BTreeSet<String>) -> bool {
    let starts = |start: &str| {
        let mut segments = path.iter();
        start
            .split("::")
            .all(|part| segments.next().is_some_and(|s| s == part))
    };
    match path[0].as_str() {
        "crate" => {
            let own = row.folder.trim_end_matches("/mod").replace('/', "::");
            let ours = |module: &str| starts(&format!("crate::{module}"));
            ours(&own) || ours(EVERYWHERE) || row.modules.iter().any(|module| ours(module))
        }
        "std" => {
            let is_pure = PURE.iter().any(|folder| is_below(row.folder, folder));
            !is_pure || !IMPURE.iter().any(|impure| starts(impure))
        }
        foreign if crates.contains(foreign) => row.crates.contains(&foreign),
        _ => true,
    }
}

fn is_below(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Source files as `folder/name`, without the extension.
fn files(below: &str) -> impl Iterator<Item = String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(below);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let key = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&format!("{key}/")));
        } else if let Some(key) = key.strip_suffix(".rs") {
            found.push(key.to_owned());
        }
    }
    found.sort();
    found.into_iter()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The crates that we depend on, as they are named in paths.
fn dependencies() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let sections = manifest.split("\n[").filter(|section| {
        let title = section.lines().next().unwrap_or_default();
        title == "dependencies]" || title.starts_with("target.")
    });
    let lines = sections.flat_map(|section| section.lines().skip(1));
    let names = lines.filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

/// Every path of a file that names a crate or one of our modules, from its root.
fn paths(key: &str, source: &str) -> Vec<ModulePath> {
    let mut reader = PathReader {
        tokens: tokens(source),
        at: 0,
        module: module(key),
        paths: Vec::new(),
    };
    reader.block();
    reader.paths
}

struct PathReader {
    tokens: Vec<String>,
    at: usize,
    /// The module that is being read.
    module: ModulePath,
    paths: Vec<ModulePath>,
}

impl PathReader {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    /// Reads up to the closing brace, or to the end.
    fn block(&mut self) {
        while self.at < self.tokens.len() {
            let token = self.peek(0).to_owned();
            if token == "mod" && self.peek(2) == "{" {
                let (name, known) = (self.peek(1).to_owned(), self.paths.len());
                let is_test = name == "tests";
                self.module.push(name);
                self.at += 3;
                self.block();
                self.module.pop();
                if is_test {
                    self.paths.truncate(known);
                }
            } else if token == "{" {
                self.at += 1;
                self.block();
            } else if token == "}" {
                self.at += 1;
                return;
            } else if is_word(&token) {
                self.path(Vec::new());
            } else {
                self.at += 1;
            }
        }
    }

    /// Reads what stands behind `start::`.
    fn path(&mut self, start: ModulePath) {
        let mut path = start;
        loop {
            let token = self.peek(0).to_owned();
            self.at += 1;
            if token == "{" {
                return self.group(&path);
            }
            if token != "*" {
                path.push(token);
            }
            let goes_on = is_word(self.peek(1)) || matches!(self.peek(1), "{" | "*");
            if self.peek(0) != "::" || !goes_on {
                break;
            }
            self.at += 1;
        }
        self.note(&path);
    }

    /// Reads `a, b::c}` behind `start::{`.
    fn group(&mut self, start: &ModulePath) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "}" => return self.at += 1,
                "as" => self.at += 2,
                "self" => {
                    self.note(start);
                    self.at += 1;
                }
                "," => self.at += 1,
                _ => self.path(start.clone()),
            }
        }
    }

    fn note(&mut self, path: &ModulePath) {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let resolved = match path[0].as_str() {
            "self" => [&self.module, &path[1..]].concat(),
            "super" => [&self.module[..self.module.len() - ups], &path[ups..]].concat(),
            _ => path.clone(),
        };
        if path.len() > ups.max(1) {
            self.paths.push(resolved);
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::`, and single signs; comments, texts, lifetimes and fields (`.x`) left out.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").unwrap() + 2
        } else if let Some(length) = text_length(rest) {
            length
        } else if first == '\'' {
            1 + word_length(&rest[1..])
        } else if is_word(rest) {
            let length = word_length(rest);
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// The length of the text or character literal at the start, if there is one.
fn text_length(source: &str) -> Option<usize> {
    let plain = source.trim_start_matches(['b', 'r']);
    let prefix = source.len() - plain.len();
    if prefix > 2 {
        return None;
    }
    let hashes = plain.len() - plain.trim_start_matches('#').len();
    if source[..prefix].contains('r') && plain[hashes..].starts_with('"') {
        let end = format!("\"{}", &plain[..hashes]);
        let inside = prefix + hashes + 1;
        return Some(inside + source[inside..].find(&end).unwrap() + end.len());
    }
    let quote = plain.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut chars = plain.char_indices().skip(1);
    let mut inside = 0;
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return Some(prefix + at + 1);
        } else if quote == '\'' && inside > 0 {
            return None;
        }
        inside += 1;
    }
    None
}
