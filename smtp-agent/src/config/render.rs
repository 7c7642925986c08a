//! Problems as text: message, the line, a caret under the fault.
//!
//! The echoed line comes from a file that may be hostile. Nothing of it reaches the terminal unless it is
//! printable, and what is shown instead (`\u{1b}`) moves the caret along.

use std::{borrow::Cow, ops::Range};

use super::{
    place::Place,
    problem::{Problem, Problems, Severity},
};

/// A tab as shown, in both lines alike.
const TAB: &str = "    ";
/// Characters shown before and after the start of the fault; the rest of a long line becomes an ellipsis.
const BEFORE: usize = 60;
const AFTER: usize = 60;

struct Colors {
    error: &'static str,
    warning: &'static str,
    gutter: &'static str,
    reset: &'static str,
}

const PLAIN: Colors = Colors { error: "", warning: "", gutter: "", reset: "" };
const ANSI: Colors = Colors { error: "\x1b[1;31m", warning: "\x1b[1;33m", gutter: "\x1b[34m", reset: "\x1b[0m" };

pub(super) fn problems(problems: &Problems, color: bool) -> String {
    let colors = if color { &ANSI } else { &PLAIN };
    let mut blocks: Vec<String> = problems.iter().map(|problem| block(problem, colors)).collect();
    match problems.left_out() {
        0 => {}
        n => blocks.push(format!("and {n} more")),
    }
    blocks.join("\n")
}

fn block(problem: &Problem, colors: &Colors) -> String {
    let tint = match problem.severity {
        Severity::Error => colors.error,
        Severity::Warning => colors.warning,
    };
    let Colors { gutter, reset, .. } = colors;
    let severity = problem.severity.name();
    let message = escape(&problem.message);
    let hint = problem.hint.as_deref().map(escape);
    let Some(place) = &problem.place else {
        let hint = hint.map(|hint| format!("\n      {gutter}={reset} {hint}")).unwrap_or_default();
        return format!("{tint}{severity}{reset}: {message}{hint}");
    };
    let Excerpt { line, pad, carets } = excerpt(place);
    let number = place.line();
    let shown = format!("{gutter}{number:>5} |{reset} {line}");
    let hint = hint.map(|hint| format!(" {hint}")).unwrap_or_default();
    format!(
        "{tint}{severity}{reset}: {place}: {message}\n{}\n      {gutter}|{reset} {pad}{tint}{carets}{hint}{reset}",
        shown.trim_end()
    )
}

/// The part of a line around a fault, and what goes below it.
struct Excerpt {
    line: String,
    pad: String,
    carets: String,
}

fn excerpt(place: &Place) -> Excerpt {
    let source = place.source();
    let Range { start: line_start, end: line_end } = source.line_range(source.line_index(place.range().start));
    // The fault may stand on the line break itself, or go on in the next line.
    let at = place.range().start.clamp(line_start, line_end);
    let until = place.range().end.clamp(at, line_end);
    let (head, tail) = (&source.text()[line_start..at], &source.text()[at..line_end]);

    let hidden = behind_hosts(&source.text()[line_start..line_end]);
    let is_hidden = |at: usize| hidden.iter().find(|range| range.contains(&(at - line_start)));
    let cut = head.char_indices().rev().nth(BEFORE - 1).map_or(0, |(offset, _)| offset);
    let mut out = Excerpt { line: String::new(), pad: String::new(), carets: String::new() };
    if cut > 0 {
        out.line.push('…');
        out.pad.push(' ');
    }
    let cell = |offset: usize, c: char| match is_hidden(offset) {
        Some(range) if range.start == offset - line_start => Some(Cell::of('…')),
        Some(_) => None,
        None => Some(Cell::of(c)),
    };
    for (offset, c) in head[cut..].char_indices() {
        if let Some(cell) = cell(line_start + cut + offset, c) {
            out.line.push_str(&cell.text);
            out.pad.push_str(&cell.blank());
        }
    }
    let cells = tail.char_indices().filter_map(|(offset, c)| Some((at + offset, cell(at + offset, c)?)));
    for (n, (offset, cell)) in cells.enumerate() {
        if n == AFTER {
            out.line.push('…');
            break;
        }
        out.line.push_str(&cell.text);
        if offset < until {
            out.carets.push_str(&"^".repeat(cell.width));
        }
    }
    if out.carets.is_empty() {
        out.carets.push('^');
    }
    out
}

/// What stands behind the host in each URL of a line, and before it: tokens and passwords, which do not belong into a log or
/// onto a screen.
fn behind_hosts(line: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for (at, mark) in line.match_indices("://") {
        let host = at + mark.len();
        let end = |from: usize, ends: &str| {
            let found = line[from..].find(|c: char| c.is_whitespace() || c.is_control() || ends.contains(c));
            found.map_or(line.len(), |length| from + length)
        };
        let (until, last) = (end(host, "\"'/?#\\"), end(host, "\"'"));
        if let Some(user) = line[host..until].rfind('@') {
            hidden.push(host..host + user);
        }
        // A slash alone says nothing.
        if last > until + 1 {
            hidden.push(until + usize::from(line[until..].starts_with('/'))..last);
        }
    }
    hidden
}

/// One character as it is shown.
struct Cell {
    text: Cow<'static, str>,
    /// Columns of the terminal it takes.
    width: usize,
    wide: bool,
}

impl Cell {
    fn of(c: char) -> Self {
        if c == '\t' {
            return Self { text: Cow::Borrowed(TAB), width: TAB.len(), wide: false };
        }
        let text = visible(c);
        let wide = is_wide(c);
        let width = if wide { 2 } else { text.chars().count() };
        Self { text: Cow::Owned(text), width, wide }
    }

    /// Something invisible of the same width. U+3000 is the blank that is two columns wide, so that one
    /// character stays one character and the caret stands right whether the reader counts or looks.
    fn blank(&self) -> String {
        if self.wide { "\u{3000}".to_owned() } else { " ".repeat(self.width) }
    }
}

/// The character itself where it is harmless, else its escape. `escape_debug` knows what is printable:
/// control characters, bidirectional overrides, zero-width and combining characters are not.
fn visible(c: char) -> String {
    match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    }
}

/// A text from outside on one line of harmless characters.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(visible).collect())
    }
}

/// A text from outside inside a message: escaped and of bounded length.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", escape(&text[..cut])),
        None => escape(text).into_owned(),
    }
}

/// The same of a URL, without what is behind its host.
pub(super) fn quoted_url(url: &str) -> String {
    let (mut shown, mut at) = (String::new(), 0);
    for hidden in behind_hosts(url) {
        shown = shown + &url[at..hidden.start] + "…";
        at = hidden.end;
    }
    quoted(&(shown + &url[at..]))
}

/// Takes two columns in a terminal: the blocks Unicode's East Asian Width calls wide or fullwidth, and emoji.
fn is_wide(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd)
}
