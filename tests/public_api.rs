//! The list of public items, held against `public_api.txt`: a change of it is a decision.
//!
//! It reads the `pub use` lines and `pub mod`s of the files that make the public paths. After a
//! change that is meant, run it with `UPDATE=1` and look at the difference.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The files whose public names are paths for users, and the paths.
const FACADES: [(&str, &str); 5] = [
    ("src/lib.rs", "distributable"),
    ("src/middleware/mod.rs", "distributable::middleware"),
    ("src/session/mod.rs", "distributable::session"),
    ("src/store/mod.rs", "distributable::store"),
    ("src/testing/mod.rs", "distributable::testing"),
];

/// The structs of errors and the enums of their kinds.
const ERRORS_MAX: usize = 10;

#[test]
fn the_public_items_are_the_ones_that_are_listed() {
    let found = paths().into_iter().collect::<Vec<_>>().join("\n") + "\n";
    let list = root().join("tests/public_api.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&list, &found).unwrap();
    }
    let listed = fs::read_to_string(&list).unwrap();
    let only = |one: &str, other: &str| -> Vec<String> {
        let other: BTreeSet<_> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.map(str::to_owned).collect()
    };
    let (new, gone) = (only(&found, &listed), only(&listed, &found));
    assert!(
        new.is_empty() && gone.is_empty(),
        "the public items have changed; new: {new:?}, gone: {gone:?}"
    );
}

/// One path in the documentation, in the errors of the compiler and in the imports of users.
#[test]
fn every_item_has_one_path() {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for path in paths() {
        let (place, name) = path.rsplit_once("::").unwrap();
        places
            .entry(name.to_owned())
            .or_default()
            .push(place.to_owned());
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "items with several paths: {places:?}");
}

/// An application can know all of them. `Lagged` is none: it counts the events that a subscriber
/// has missed, and the next event follows it.
#[test]
fn there_are_few_errors() {
    let is_error = |path: &String| ["Error", "ErrorKind"].iter().any(|end| path.ends_with(end));
    let errors: BTreeSet<_> = paths().into_iter().filter(is_error).collect();
    assert!(errors.len() <= ERRORS_MAX, "{errors:#?}");
    let mut types = BTreeSet::new();
    implementors_of_error(&root().join("src"), &mut types);
    for path in paths() {
        let (place, name) = path.rsplit_once("::").unwrap();
        if name != "Lagged" && types.contains(name) {
            let kind = format!("{place}::{name}Kind");
            assert!(
                errors.contains(&path) && errors.contains(&kind),
                "{path} has another shape"
            );
        }
    }
}

/// Errors are shown behind a colon, one after the other.
#[test]
fn messages_of_errors_are_no_sentences() {
    let mut messages = 0;
    for file in ["error/mod.rs", "error/session.rs", "store/redis/error.rs"] {
        let source = fs::read_to_string(root().join("src").join(file)).unwrap();
        for (_, text) in source.lines().filter_map(|line| line.split_once("=> \"")) {
            let text = text.trim_end_matches(['"', ',']);
            assert!(!text.starts_with(char::is_uppercase), "{file}: {text}");
            assert!(!text.ends_with('.'), "{file}: {text}");
            messages += 1;
        }
    }
    assert!(messages > 30, "{messages}");
}

#[test]
fn names_are_read_from_one_line_and_from_several() {
    let source = "
        pub use one::{A, B as C};
        pub(crate) use two::D;
        #[cfg(any())]
        pub use self::three::{
            E, F,
            G,
        };
        pub use four::H;
        pub mod five;
        pub(crate) mod six;
        mod seven;
        pub struct Eight;
        pub trait Nine: Send {
        pub fn ten() {}
    ";
    let expected = ["A", "C", "E", "Eight", "F", "G", "H", "Nine", "five"];
    assert_eq!(Vec::from_iter(names(source)), expected);
}

/// Adds the types for which a file below `folder` implements `Error`.
fn implementors_of_error(folder: &Path, types: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            implementors_of_error(&path, types);
            continue;
        }
        let source = fs::read(&path).unwrap();
        for line in String::from_utf8_lossy(&source).lines() {
            let name = line.strip_prefix("impl Error for ");
            types.extend(
                name.and_then(|name| name.split_whitespace().next())
                    .map(str::to_owned),
            );
        }
    }
}

/// The public paths of this crate.
fn paths() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (file, path) in FACADES {
        let source = fs::read_to_string(root().join(file)).unwrap();
        paths.extend(names(&source).iter().map(|name| format!("{path}::{name}")));
    }
    paths
}

/// The names that a file makes public at its level.
fn names(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(item) = line.strip_prefix("pub ") else {
            continue;
        };
        if let Some(path) = item.strip_prefix("use ") {
            let mut path = path.to_owned();
            while !path.ends_with(';') {
                path += lines.next().unwrap();
            }
            let list = path.rsplit("::").next().unwrap();
            let list = path.split_once('{').map_or(list, |(_, list)| list);
            let all = list.trim_matches(['}', ';', ' ']).split(',');
            let all = all.map(|name| name.trim().trim_matches(['}', ';']));
            let public = |name: &str| name.rsplit(" as ").next().unwrap().to_owned();
            names.extend(all.filter(|name| !name.is_empty()).map(public));
        } else {
            for kind in ["mod ", "struct ", "enum ", "trait "] {
                if let Some(name) = item.strip_prefix(kind) {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                    names.insert(name[..end.unwrap_or(name.len())].to_owned());
                }
            }
        }
    }
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
