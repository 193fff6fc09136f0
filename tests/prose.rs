//! Style of the prose: the words and the spelling of comments and documentation, and the length of
//! their lines, in the library, its tests, examples and benchmarks, and the messages of log lines
//! in `src`.
//!
//! It reads the comments of Rust and Lua files and the text of Markdown files, and lists every
//! violation with its file and line. It does not check grammar, identifiers, string literals or
//! files of other kinds: scripts, configurations, corpora, the expected output of the compiler.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

/// Words that leave the actor open, or describe programs as people.
const BANNED: &[&str] = &[
    "somebody",
    "someone",
    "nobody",
    "everybody",
    "whoever",
    "whom",
    "says whether",
    "told",
    "hears",
    "believes",
];

/// British spellings, and what Americans write.
const BRITISH: &[(&str, &str)] = &[
    ("afterwards", "afterward"),
    ("artefact", "artifact"),
    ("behaviour", "behavior"),
    ("cancelled", "canceled"),
    ("cancelling", "canceling"),
    ("centre", "center"),
    ("colour", "color"),
    ("defence", "defense"),
    ("dialled", "dialed"),
    ("favour", "favor"),
    ("honour", "honor"),
    ("initialise", "initialize"),
    ("judgement", "judgment"),
    ("labelled", "labeled"),
    ("learnt", "learned"),
    ("licence", "license"),
    ("neighbour", "neighbor"),
    ("organise", "organize"),
    ("recognise", "recognize"),
    ("serialise", "serialize"),
    ("signalled", "signaled"),
    ("spoilt", "spoiled"),
    ("synchronise", "synchronize"),
    ("towards", "toward"),
    ("travelled", "traveled"),
    ("whilst", "while"),
];

/// First words of a clause, where the first line of a module's documentation is a noun phrase.
const OPENINGS: &[&str] = &["What", "Who", "Where", "Why", "How"];

const COLUMNS_MAX: usize = 100;

/// Folders whose prose is checked.
const FOLDERS: &[&str] = &["src", "tests", "examples", "benches"];

#[test]
fn comments_and_docs_keep_the_style() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        let before = files.len();
        collect(&root.join(folder), &mut files);
        assert!(files.len() > before, "`{folder}` has files");
    }
    assert!(files.len() > 300, "the sources are read: {}", files.len());
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().display();
        let found = check(Language::of(&file).unwrap(), &text);
        violations.extend(
            found
                .iter()
                .map(|(line, what)| format!("{name}:{line}: {what}")),
        );
    }
    assert!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn violations_are_found_in_comments_and_nowhere_else() {
    let long = format!("    // {}", "x".repeat(COLUMNS_MAX - 6));
    let source = [
        "//! What it is.",
        "//! Nobody is",
        "//! told. It says",
        "//! whether it is.",
        "",
        "/// Whoever calls, e.g. someone else; a storyteller foretold it.",
        "fn nobody() -> &'static str { \"somebody // told\" } // Everybody.",
        "const HEARS: &str = r#\"\" // whom \"#; /* hears",
        "   believes */ const QUOTE: char = '\"'; // someone",
        "fn told<'a>(_: &'a str) {} // colours",
        &long,
        "// A link may be longer: https://example.org/one-word-that-cannot-be-broken-into-two-lines/0123456789",
    ];
    let found = check(Language::Rust, &source.join("\n"));
    let expected = [
        (1, "a module's documentation opens with `What`"),
        (2, "`nobody`"),
        (3, "`told`"),
        (4, "`says whether`"),
        (6, "`whoever`"),
        (6, "`someone`"),
        (7, "`everybody`"),
        (8, "`hears`"),
        (9, "`believes`"),
        (9, "`someone`"),
        (10, "`colour`: write `color`"),
        (11, "101 columns"),
    ];
    let expected = expected.map(|(line, what)| (line, what.to_owned()));
    assert_eq!(found, expected);

    let script = "-- Whom it serves.\nlocal s = 'told' -- hears\n";
    let expected = [(1, "`whom`".to_owned()), (2, "`hears`".to_owned())];
    assert_eq!(check(Language::Lua, script), expected);
    let page = "# How it works\n\nA page may open as it likes, but\n`nobody` is banned.\n";
    assert_eq!(
        check(Language::Markdown, page),
        [(4, "`nobody`".to_owned())]
    );
}

/// Tests and what the guide shows are read with what they belong to.
#[test]
fn every_module_has_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    let needs_none = |file: &PathBuf| {
        let is_inner = |part: &str| ["recipes", "tests", "tests.rs"].contains(&part);
        let below = file.strip_prefix(root).unwrap();
        below.starts_with("src") && below.iter().any(|part| is_inner(part.to_str().unwrap()))
            || below.starts_with("tests/recipes")
    };
    let missing: Vec<_> = files
        .iter()
        .filter(|file| Language::of(file) == Some(Language::Rust) && !needs_none(file))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// A log line is a fixed message with fields: it can be counted, searched and translated.
#[test]
fn log_lines_are_fixed_messages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let mut calls = 0;
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for call in log_calls(&text) {
            calls += 1;
            if !is_fixed(call) {
                violations.push(format!("{}: {call}", file.display()));
            }
        }
    }
    assert!(calls > 50, "the calls are found: {calls}");
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn a_log_line_with_a_placeholder_is_found() {
    let source = r#"
        tracing::info!(node = %name, "a member was added");
        warn!(cause = ("a", (1)).0, "it is down; use `{}` (or not)");
        error!("{} is down", name);
        debug!(name);
        panic_warn!("{}");
    "#;
    let calls: Vec<_> = log_calls(source).collect();
    assert_eq!(calls.len(), 4, "{calls:?}");
    let fixed: Vec<_> = calls.into_iter().map(is_fixed).collect();
    assert_eq!(fixed.iter().filter(|fixed| **fixed).count(), 1, "{fixed:?}");
}

/// The arguments of the calls of logging macros.
fn log_calls(text: &str) -> impl Iterator<Item = &str> {
    const LEVELS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    LEVELS
        .iter()
        .flat_map(|level| text.match_indices(level))
        .filter(|(at, _)| {
            let before = text[..*at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
        .map(|(at, level)| {
            let arguments = &text[at + level.len()..];
            &arguments[..end_of_arguments(arguments)]
        })
}

/// The position of the parenthesis that closes the one before `text`.
fn end_of_arguments(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Returns `true` if the call has a message without placeholders, or a constant as its message.
fn is_fixed(call: &str) -> bool {
    let call = call.trim_end().trim_end_matches(',');
    call.starts_with("message = ") || call.ends_with('"') && !call.contains('{')
}

#[derive(Clone, Copy, PartialEq)]
enum Language {
    Rust,
    Lua,
    Markdown,
}

impl Language {
    fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "rs" => Some(Self::Rust),
            "lua" => Some(Self::Lua),
            "md" => Some(Self::Markdown),
            _ => None,
        }
    }
}

/// All files below a folder whose language is known, sorted.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if Language::of(&path).is_some() {
            files.push(path);
        }
    }
}

/// The violations in a file, with their lines, counted from 1.
fn check(language: Language, text: &str) -> Vec<(usize, String)> {
    let comments = match language {
        Language::Rust => rust_comments(text),
        Language::Lua => lua_comments(text),
        Language::Markdown => text.lines().map(str::to_owned).collect(),
    };
    let mut found = banned(&comments);
    let opening = comments.iter().find_map(|line| line.strip_prefix("//! "));
    if let Some(opening) = opening
        && let Some(word) = opening.split_whitespace().next()
        && OPENINGS.contains(&word)
    {
        let what = format!("a module's documentation opens with `{word}`");
        let line = comments.iter().position(|line| line.starts_with("//!"));
        found.push((line.unwrap() + 1, what));
    }
    if language != Language::Markdown {
        for (number, (line, comment)) in text.lines().zip(&comments).enumerate() {
            let columns = line.chars().count();
            // A line that is nothing but a comment; code is rustfmt's business.
            let is_comment = !comment.is_empty() && line.trim_start() == comment.trim_start();
            if is_comment && columns > COLUMNS_MAX && !line.contains("://") {
                found.push((number + 1, format!("{columns} columns")));
            }
        }
    }
    found.sort_by_key(|(line, _)| *line);
    found
}

/// Finds banned words, also those of two words on two lines, each where it ends, and British
/// spellings.
fn banned(comments: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut last = String::new();
    for (number, comment) in comments.iter().enumerate() {
        let words = comment.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| !word.is_empty()) {
            let word = word.to_lowercase();
            let pair = format!("{last} {word}");
            let hit = BANNED
                .iter()
                .find(|banned| **banned == word || **banned == pair);
            found.extend(hit.map(|banned| (number + 1, format!("`{banned}`"))));
            let british = BRITISH
                .iter()
                .find(|(british, _)| word.starts_with(british));
            found.extend(british.map(|(british, american)| {
                (number + 1, format!("`{british}`: write `{american}`"))
            }));
            last = word;
        }
        if comment.is_empty() {
            last.clear();
        }
    }
    found
}

/// The comments of a Rust file, by line: each with what introduces it, code left out.
fn rust_comments(text: &str) -> Vec<String> {
    let mut comments = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut last = ' ';
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('/', Some('/')) => {
                comments.last_mut().unwrap().push('/');
                while let Some(c) = chars.next_if(|c| *c != '\n') {
                    comments.last_mut().unwrap().push(c);
                }
            }
            ('/', Some('*')) => block_comment(&mut chars, &mut comments),
            ('"', _) => string(&mut chars, &mut comments),
            ('r', Some('"' | '#')) if !is_word(last) || last == 'b' => {
                raw_string(&mut chars, &mut comments);
            }
            // A character, and not a lifetime, whose name is followed by no quotation mark.
            ('\'', Some('\\')) => {
                chars.next();
                chars.next();
                while chars.next_if(|c| *c != '\'').is_some() {}
                chars.next();
            }
            ('\'', Some(_)) => {
                let mut ahead = chars.clone();
                if ahead.nth(1) == Some('\'') {
                    chars = ahead;
                }
            }
            ('\n', _) => comments.push(String::new()),
            _ => {}
        }
        last = c;
    }
    comments
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads a comment that begins with `/*`, which may contain others.
fn block_comment(chars: &mut Peekable<Chars<'_>>, comments: &mut Vec<String>) {
    let mut depth = 0;
    let mut last = '/';
    for c in chars.by_ref() {
        match (last, c) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            (_, '\n') => comments.push(String::new()),
            _ => comments.last_mut().unwrap().push(c),
        }
        if depth == 0 {
            return;
        }
        // Two signs share no character.
        last = if matches!((last, c), ('/', '*') | ('*', '/')) {
            ' '
        } else {
            c
        };
    }
}

/// Skips a string literal behind its first quotation mark.
fn string(chars: &mut Peekable<Chars<'_>>, comments: &mut Vec<String>) {
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '\n' => comments.push(String::new()),
            '\\' if chars.next() == Some('\n') => comments.push(String::new()),
            _ => {}
        }
    }
}

/// Skips a raw string behind its `r`; a raw identifier is left alone.
fn raw_string(chars: &mut Peekable<Chars<'_>>, comments: &mut Vec<String>) {
    let mut hashes = 0;
    while chars.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if chars.next_if_eq(&'"').is_none() {
        return;
    }
    while let Some(c) = chars.next() {
        match c {
            '\n' => comments.push(String::new()),
            '"' => {
                let mut behind = 0;
                while behind < hashes && chars.next_if_eq(&'#').is_some() {
                    behind += 1;
                }
                if behind == hashes {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// The comments of a Lua file, by line. No string there contains `--`.
fn lua_comments(text: &str) -> Vec<String> {
    let comment = |line: &str| line.find("--").map(|at| line[at..].to_owned());
    text.lines()
        .map(|line| comment(line).unwrap_or_default())
        .collect()
}
