//! Shell commands as a page prints them.

/// Lines of shell blocks, continued ones joined, and `cargo …` in running text.
pub(crate) fn command_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 0 {
            let spans = part
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|span| span.starts_with("cargo ") || span.contains(" cargo "));
            found.extend(spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
        } else if let Some(block) = part.strip_prefix("sh\n") {
            let joined = block.replace("\\\n", " ");
            let lines = joined
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty());
            found.extend(lines.map(str::to_owned));
        }
    }
    found
}

/// The words of each simple command of a line.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '&' | ';' | '(' | ')' | '|') => {
                words.extend(word.take());
                all.push(std::mem::take(&mut words));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}
