//! A report as one HTML file, fit for mailing: no scripts, nothing from elsewhere, every text escaped.

use std::fmt::Write;

use super::{
    Report, chart, nearest_end,
    numbers::grouped,
    summary::{Point, Row},
};

/// Lines that the chart shows.
const BARS: usize = 10;

const STYLE: &str = "body{font-family:sans-serif;max-width:900px;margin:2em auto;color:#222}\
table{border-collapse:collapse;width:100%;font-size:90%}\
th,td{padding:.3em .6em;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}\
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}\
tr.sum td{border-top:2px solid #222;font-weight:bold}.note{color:#555;font-size:90%}";

/// A text as it may stand in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Neither XML nor HTML has them.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The shortest time between two stretches: there may be gaps.
fn step(points: &[Point]) -> i64 {
    let apart = points.windows(2).map(|pair| pair[1].millis - pair[0].millis);
    apart.filter(|apart| *apart > 0).min().unwrap_or(60_000)
}

pub fn write(report: &Report) -> String {
    let whose = report.user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
    let title = format!("Outgoing mail{whose} on {}", report.host);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<p>{} to {}</p>\n",
        escape(&report.since),
        escape(&report.until),
        title = escape(&title),
    );
    let totals = &report.totals;
    let _ = writeln!(
        out,
        "<p><strong>{}</strong> attempts: {} allowed, {} exempt, {} stopped ({}). {} sessions ended, {} of them failed. \
         Messages: {}. Recipients: {}.</p>",
        grouped(totals.attempts),
        grouped(totals.allowed),
        grouped(totals.exempt),
        grouped(totals.stopped),
        totals.how_stopped(),
        grouped(totals.sessions.all()),
        grouped(totals.sessions.failed),
        totals.messages.listed(),
        totals.recipients.listed(),
    );
    out.push_str("<h2>Over time</h2>\n");
    out.push_str(&chart::over_time(&report.series, step(&report.series)));
    let _ = writeln!(out, "<h2>By {}</h2>", escape(report.by));
    if report.rows.is_empty() {
        out.push_str("<p>Nothing in this period.</p>\n");
    } else {
        let lines = report.rows.iter().take(BARS);
        out.push_str(&chart::bars(lines.map(|row| (row.name.as_str(), row.numbers.attempts, row.numbers.stopped))));
        out.push_str(&chart::legend());
        out.push_str(&table(report));
    }
    for note in &report.notes {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    out + "<p class=\"note\">Made by smtp-agent. Times are UTC.</p>\n</body></html>\n"
}

fn table(report: &Report) -> String {
    let heads = [
        report.by,
        "attempts",
        "allowed",
        "exempt",
        "stopped",
        "over limit",
        "sessions failed",
        "messages accepted",
        "deferred",
        "rejected",
        "recipients",
    ];
    let mut out = String::from("<table>\n<tr>");
    let has_left = report.rows.iter().any(|row| !row.left.is_empty());
    heads
        .iter()
        .chain(has_left.then_some(&"left"))
        .for_each(|head| out.push_str(&format!("<th>{}</th>", escape(head))));
    out.push_str("</tr>\n");
    let total = Row { name: "total".to_owned(), numbers: report.totals, left: Vec::new() };
    for (row, class) in report.rows.iter().chain(&report.rest).map(|row| (row, "")).chain([(&total, " class=\"sum\"")])
    {
        let cells = row.numbers.columns();
        let _ = write!(out, "<tr{class}><td>{}</td>", escape(&row.name));
        cells.iter().for_each(|cell| out.push_str(&format!("<td>{}</td>", grouped(*cell))));
        if has_left {
            let _ = write!(out, "<td>{}</td>", escape(&nearest_end(&row.left)));
        }
        out.push_str("</tr>\n");
    }
    out + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Left, Numbers};
    use proptest::prelude::*;

    fn report(name: &str) -> Report {
        let numbers = Numbers { attempts: 7, allowed: 5, stopped: 2, refused: 2, ..Numbers::default() };
        let point = |millis| Point { time: super::super::date(millis), millis, numbers };
        Report {
            host: name.into(),
            since: "2026-11-19T00:00:00Z".into(),
            until: "2026-11-20T00:00:00Z".into(),
            by: "script",
            user: Some(name.into()),
            totals: numbers,
            attributed: 7,
            rows: vec![Row { name: name.into(), numbers, left: Vec::new() }],
            rest: None,
            series: vec![point(1_795_132_800_000), point(1_795_140_000_000)],
            notes: vec![name.into()],
        }
    }

    #[test]
    fn no_name_becomes_markup() {
        let plain = write(&report("shop"));
        let hostile = write(&report("</title><script>alert(1)</script>\"'&<img src=x onerror=y>"));
        let tags = |text: &str| text.matches('<').count();
        assert_eq!(tags(&hostile), tags(&plain));
        assert!(!hostile.contains("<script") && !hostile.contains("<img"));
    }

    #[test]
    fn what_is_left_stands_behind_each_account_where_it_is_known() {
        assert!(!write(&report("shop")).contains("<th>left</th>"));
        let mut report = report("shop");
        report.rows[0].left =
            vec![Left { level: super::super::OWN, unit: "message", window: "hour", left: 3, limit: 1_000 }];
        let page = write(&report);
        assert!(page.contains("<th>left</th>") && page.contains("<td>3 messages of 1,000 an hour</td>"), "{page}");
    }

    #[test]
    fn a_page_asks_for_nothing_and_runs_nothing() {
        let page = write(&report("shop"));
        for word in ["<script", "src=", "href=", "url(", "@import", "onload"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'") && page.contains("7</td>") && page.contains("<rect"));
    }

    proptest! {
        #[test]
        fn an_escaped_text_has_nothing_left_to_escape(text: String) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert_eq!(escaped.matches('&').count(), text.matches(['&', '<', '>', '"', '\'']).count());
        }
    }
}
