//! The cases of `cases.txt`, and the tests that name them in their doc comments.
//!
//! `cargo test --test case_table -- --nocapture` prints the cases with their tests.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[test]
fn every_case_is_named_by_a_test_and_every_name_is_a_case() {
    let cases = cases(&fs::read_to_string(root().join("tests/cases.txt")).unwrap());
    let mut tests = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), &mut tests);
    }
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (test, ids) in &tests {
        for id in ids {
            named.entry(id).or_default().insert(test);
            match cases.get(id) {
                None => faults.push(format!("{test} names {id}, which is no case")),
                Some(Automated::No) => {
                    faults.push(format!(
                        "{test} covers {id}: remove `not automated` from it"
                    ));
                }
                Some(Automated::Yes) => {}
            }
        }
    }
    for (id, automated) in &cases {
        let tests = named.remove(&**id).unwrap_or_default();
        if tests.is_empty() && *automated == Automated::Yes {
            faults.push(format!("no test names {id}"));
        }
        println!("{id}: {}", Vec::from_iter(tests).join(", "));
    }
    assert!(tests.len() > 300, "the tests are read: {}", tests.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_of_cases_are_read_from_doc_comments() {
    let source = "
        /// 60 (a), F-01: after an orderly end.
        #[test]
        fn one() {}

        /// Cases 3, 10. Not the 4 of the text, but R-05, 7 times, and no UTF-16.
        #[tokio::test(start_paused = true)]
        #[expect(
            clippy::unwrap_used,
            reason = \"it is how a test fails\"
        )]
        async fn two() {}

        /// 5 seconds are enough.
        fn three() {}

        /// A-01.

        struct Other;
        pub(super) fn four() {}
    ";
    let expected = [
        ("one", vec!["60 (a)", "F-01"]),
        ("two", vec!["3", "10", "R-05"]),
    ];
    let expected = expected.map(|(name, ids)| {
        let ids = ids.into_iter().map(str::to_owned);
        (name.to_owned(), ids.collect::<BTreeSet<_>>())
    });
    assert_eq!(tests_of(source), expected);
}

#[derive(PartialEq, Debug)]
enum Automated {
    Yes,
    No,
}

/// The names of the cases in the list, each once.
fn cases(list: &str) -> BTreeMap<String, Automated> {
    let mut cases = BTreeMap::new();
    let lines = list.lines().filter(|line| !line.is_empty());
    for line in lines.filter(|line| !line.starts_with('#')) {
        let (name, text) = line.split_once(": ").expect("a name and what must hold");
        assert_eq!(leading(&format!("{name}:")), [name], "a name of a case");
        let automated = if text.contains("(not automated") {
            Automated::No
        } else {
            Automated::Yes
        };
        let before = cases.insert(name.to_owned(), automated);
        assert!(before.is_none(), "{name} stands there twice");
    }
    cases
}

/// The functions of a file whose doc comments name cases, with these.
fn tests_of(source: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut tests = Vec::new();
    let (mut ids, mut is_first) = (BTreeSet::new(), true);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            if is_first {
                ids.extend(leading(text).into_iter().map(str::to_owned));
            }
            ids.extend(lettered(text).map(str::to_owned));
            is_first = false;
        } else if let Some(name) = function(line) {
            if !ids.is_empty() {
                tests.push((name.to_owned(), ids));
            }
            (ids, is_first) = (BTreeSet::new(), true);
        } else if !["#", "clippy::", "reason = ", ")"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            // Not an attribute, which may stand between.
            (ids, is_first) = (BTreeSet::new(), true);
        }
    }
    tests
}

/// The function that is declared on this line.
fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(super)", "pub(crate)", "async"];
    if !before.split_whitespace().all(|word| words.contains(&word)) {
        return None;
    }
    after.split(['(', '<']).next()
}

/// The names that a comment begins with, if a period, a colon or a comma follows them.
fn leading(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let text = text.strip_prefix("Cases ").unwrap_or(text);
    let mut rest = text.strip_prefix("Case ").unwrap_or(text);
    let mut ids = Vec::new();
    while let Some(length) = name_length(rest) {
        let (id, after) = rest.split_at(length);
        let is_number = id.starts_with(|c: char| c.is_ascii_digit());
        if is_number && !after.starts_with(['.', ':', ',']) {
            break;
        }
        ids.push(id);
        let Some(next) = after.strip_prefix(", ") else {
            break;
        };
        rest = next;
    }
    ids
}

/// How long the name is that a text begins with: `12`, `60 (a)` or `A-01`.
fn name_length(text: &str) -> Option<usize> {
    if lettered(text).next().is_some_and(|id| text.starts_with(id)) {
        return Some(LETTERED);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=2).contains(&digits) {
        return None;
    }
    match text.as_bytes()[digits..] {
        [b' ', b'(', part, b')', ..] if part.is_ascii_lowercase() => Some(digits + 4),
        _ => Some(digits),
    }
}

/// Names such as `A-01` anywhere in a text.
fn lettered(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let is_name = move |at: &usize| {
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        let is_whole = (*at == 0 || !is_part(&bytes[at - 1]))
            && bytes.get(at + LETTERED).is_none_or(|b| !is_part(b));
        let form = bytes.get(*at..at + LETTERED);
        let has_form = |form: &[u8]| {
            form[0].is_ascii_uppercase()
                && form[1] == b'-'
                && form[2..].iter().all(u8::is_ascii_digit)
        };
        is_whole && form.is_some_and(has_form)
    };
    (0..bytes.len())
        .filter(is_name)
        .map(move |at| &text[at..at + LETTERED])
}

/// Adds the tests of the sources below a folder.
fn collect(folder: &Path, tests: &mut Vec<(String, BTreeSet<String>)>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with(file!())
        {
            tests.extend(tests_of(&fs::read_to_string(path).unwrap()));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const LETTERED: usize = 4;
