//! The results as a table, which is Markdown as well.

use crate::case::Outcome;
use crate::report::Report;
use crate::timeline::Phase;

/// One row for each case.
pub(crate) fn of(report: &Report) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(report.cases.iter().map(row));
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut table = String::from("\n");
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        table += &format!("| {} |\n", cells.join(" | "));
        if number == 0 {
            let lines: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
            table += &format!("| {} |\n", lines.join(" | "));
        }
    }
    for outcome in report.cases.iter().filter(|outcome| !outcome.kept()) {
        table += &format!("\nBROKEN, {}: {}", outcome.case, outcome.broken.join(", "));
    }
    table + "\n"
}

fn row(outcome: &Outcome) -> [String; 11] {
    let counts = &outcome.counts;
    let parts = [&outcome.before, &outcome.during, &outcome.after];
    [
        outcome.case.fault.to_string(),
        outcome.case.app.to_string(),
        outcome.case.balancer.to_string(),
        counts.requests.to_string(),
        format!("{} / {}", counts.failed_reads, counts.failed_writes),
        counts.lost_sessions.to_string(),
        format!("{} / {}", counts.lost_increments, counts.doubled_increments),
        counts.foreign_data.to_string(),
        format!("{} ms", counts.longest_stall_ms),
        each(parts, |part| part.p50_ms),
        each(parts, |part| part.p99_ms),
    ]
}

fn each(parts: [&Phase; 3], number: impl Fn(&Phase) -> Option<f64>) -> String {
    let cells = parts.map(|part| match number(part) {
        Some(ms) if ms < 10.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
        None => "–".to_owned(),
    });
    cells.join(" / ")
}

const HEAD: [&str; 11] = [
    "fault",
    "sessions in",
    "balancer",
    "requests",
    "failed GET / POST",
    "lost sessions",
    "increments lost / doubled",
    "foreign",
    "longest stall",
    "p50 ms before / during / after",
    "p99 ms before / during / after",
];
