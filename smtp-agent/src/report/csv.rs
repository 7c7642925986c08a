//! A report as CSV (RFC 4180), one line for each row, ready for a spreadsheet that takes texts for formulas.

use super::{Numbers, OWN, Report, summary::Row};

type Cell = fn(&Numbers) -> i64;

const COLUMNS: [(&str, Cell); 22] = [
    ("attempts", |n| n.attempts),
    ("allowed", |n| n.allowed),
    ("exempt", |n| n.exempt),
    ("stopped", |n| n.stopped),
    ("deferred", |n| n.deferred),
    ("redirected", |n| n.redirected),
    ("refused", |n| n.refused),
    ("would_defer", |n| n.would_defer),
    ("would_redirect", |n| n.would_redirect),
    ("would_refuse", |n| n.would_refuse),
    ("over_limit", |n| n.over_limit),
    ("submitted", |n| n.submitted),
    ("sessions_closed", |n| n.sessions.closed),
    ("sessions_failed", |n| n.sessions.failed),
    ("sessions_ended", |n| n.sessions.ended),
    ("messages_accepted", |n| n.messages.accepted),
    ("messages_deferred", |n| n.messages.deferred),
    ("messages_rejected", |n| n.messages.rejected),
    ("messages_unknown", |n| n.messages.unknown),
    ("recipients_accepted", |n| n.recipients.accepted),
    ("recipients_deferred", |n| n.recipients.deferred),
    ("recipients_rejected", |n| n.recipients.rejected),
];

/// A text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it
/// (OWASP, CSV Injection).
fn cell(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r', '\n']);
    let safe = if formula { format!("'{text}") } else { text.to_owned() };
    if safe.contains(['"', ',', '\r', '\n']) || safe.starts_with([' ', '\'']) || safe.ends_with(' ') {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

/// The lines of a report: its rows, the rest of them, and the total last. Each says of which time it is: a period whose edges
/// are not kept is not the one that was asked for.
pub fn write(report: &Report) -> String {
    let mut heads = vec![report.by.to_owned()];
    heads.extend(COLUMNS.map(|(name, _)| name.to_owned()));
    heads.extend(["left", "since", "until"].map(str::to_owned));
    let mut out = heads.join(",") + "\r\n";
    let total = Row { name: "total".to_owned(), numbers: report.totals, left: Vec::new() };
    for row in report.rows.iter().chain(&report.rest).chain([&total]) {
        let mut cells = vec![cell(&row.name)];
        cells.extend(COLUMNS.map(|(_, number)| number(&row.numbers).to_string()));
        let left = row.left.iter().map(|left| {
            let whose = if left.level == OWN { String::new() } else { format!(" ({})", left.level) };
            format!("{} {}s per {}{whose}", left.left, left.unit, left.window)
        });
        cells.push(cell(&left.collect::<Vec<_>>().join("; ")));
        cells.extend([&report.since, &report.until].map(|time| cell(time)));
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a spreadsheet makes of one line.
    fn parse(line: &str) -> Vec<String> {
        let mut cells = vec![String::new()];
        let (mut quoted, mut chars) = (false, line.chars().peekable());
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    cells.last_mut().unwrap().push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                c => cells.last_mut().unwrap().push(c),
            }
        }
        assert!(!quoted, "an open quote in {line:?}");
        cells
    }

    #[test]
    fn what_looks_like_a_formula_is_a_text() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "=cmd|' /C calc'!A0"] {
            let parsed = parse(&cell(text));
            assert_eq!(parsed, [format!("'{text}")], "{text:?}");
        }
        assert_eq!(cell("/home/shop/send.php"), "/home/shop/send.php");
    }

    proptest! {
        #[test]
        fn any_text_is_one_cell_and_no_formula(text: String) {
            let written = cell(&text);
            let parsed = parse(&written);
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(parsed[0].strip_prefix('\'').unwrap_or(&parsed[0]), text.strip_prefix('\'').unwrap_or(&text));
            prop_assert!(!parsed[0].trim_start().starts_with(['=', '+', '-', '@']));
        }
    }
}
