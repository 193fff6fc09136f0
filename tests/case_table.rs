//! The table of cases names tests that exist.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/README.md")).expect("there is a table");
    let mut sources = String::new();
    read(&root.join("tests"), &mut sources);
    read(&root.join("src"), &mut sources);
    let names: Vec<_> = table.split('`').filter(|text| is_test_name(text)).collect();
    assert!(names.len() > 100, "the table is read");
    for name in names {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "no test is called {name}"
        );
    }
}

/// Names of tests are statements: three words or more.
fn is_test_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    text.bytes().all(plain) && text.matches('_').count() >= 2
}

/// Collects the sources below a folder.
fn read(folder: &Path, into: &mut String) {
    for entry in folder.read_dir().expect("folders can be listed") {
        let path = entry.expect("entries can be listed").path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).expect("sources are text"));
        }
    }
}
