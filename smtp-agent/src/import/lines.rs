//! Texts of a panel in lines, each with its place, and the values in them.

use std::{fmt, sync::Arc};

use super::report::Report;
use crate::accounts::label::printable;

/// The largest limit a configuration takes.
pub(super) const LARGEST: u32 = 1_000_000_000;
/// `LOGIN_NAME_MAX` on Linux.
const LONGEST_NAME: usize = 256;
/// No more of a text from outside is quoted.
const LONGEST_QUOTE: usize = 100;

/// A text from outside on one line, harmless and of bounded length.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((cut, _)) => format!("{}…", printable(&text.as_bytes()[..cut])),
        None => printable(text.as_bytes()),
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    file: Arc<str>,
    /// From 1; 0 for the file as a whole.
    line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.file))?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// A file that was read.
pub(super) struct Text {
    name: Arc<str>,
    body: String,
}

/// One of its lines, without blanks around it.
#[derive(Clone)]
pub(super) struct Line<'t> {
    pub(super) text: &'t str,
    pub(super) at: Origin,
}

impl Text {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), body: String::from_utf8_lossy(bytes).into_owned() }
    }

    /// The file as a whole.
    pub(super) fn origin(&self) -> Origin {
        Origin { file: Arc::clone(&self.name), line: 0 }
    }

    /// Lines with something in them: no comments, and nothing that is not UTF-8.
    pub(super) fn lines(&self, report: &mut Report) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        for (number, text) in self.body.lines().enumerate() {
            let text = text.trim();
            let at = Origin { file: Arc::clone(&self.name), line: number + 1 };
            if text.contains(char::REPLACEMENT_CHARACTER) {
                report.not_understood("a line that is not UTF-8", "its bytes are no text", &at);
            } else if !text.is_empty() && !text.starts_with('#') {
                lines.push(Line { text, at });
            }
        }
        lines
    }

    /// Lines of the form KEY=VALUE, or KEY alone for a value that is not set.
    pub(super) fn settings<'t>(&'t self, report: &mut Report) -> Vec<(&'t str, Line<'t>)> {
        let split = |line: Line<'t>| {
            let (key, value) = line.text.split_once('=').unwrap_or((line.text, ""));
            (key.trim_end(), Line { text: value.trim_start(), at: line.at })
        };
        self.lines(report).into_iter().map(split).collect()
    }

    /// The only value of a file that holds nothing else.
    pub(super) fn value(&self, report: &mut Report) -> Option<Line<'_>> {
        self.lines(report).into_iter().next()
    }
}

/// A whole number; one that is too large for us is as good as the largest.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<u32>().unwrap_or(LARGEST).min(LARGEST))
}

/// The name of an account as a configuration takes it, or why it is none.
pub(super) fn account(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.trim() != text {
        return Err("a name is not empty and has no blanks around it");
    }
    if text.len() > LONGEST_NAME {
        return Err("no user has a name that long");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a name of digits alone would be taken for a uid");
    }
    if text.starts_with(['@', '%']) || text.contains([':', '/', ',', '"', '\'', '\\', '|', '*']) {
        return Err("it has a character that names of users do not have");
    }
    // What is not printable as it stands would make the file lie to its reader.
    if printable(text.as_bytes()) != text {
        return Err("it has a character that cannot be seen");
    }
    Ok(text.to_owned())
}
