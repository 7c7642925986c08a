//! Names whose value is a secret, and where that ends.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{MASKED, shell};

/// Names of options, variables, settings and URL parameters.
const NAME: &str = r"[a-z0-9_.\-]*(?:(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_\-]?key|access[_\-]?key|private[_\-]?key|secret[_\-]?key|credentials?|auth[_\-]?pass)[a-z0-9_]*|pass)";

/// `--password`, `-password`: the next word is the secret.
static OPTION: LazyLock<Regex> = LazyLock::new(|| built_in(&format!(r"(?i)^--?({NAME}|[a-z0-9\-]*bearer|ap|xp)$")));

/// `--password=` and `SMTP_PASS=` at the beginning of a word.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| built_in(&format!(r#"(?i)^[\\"']*-{{0,2}}({NAME})="#)));

/// `NAME=`, `"name" => `, `name: `, `['name'] = `, `name(`, in a word of any length: what follows is the secret.
static SETTING: LazyLock<Regex> =
    LazyLock::new(|| built_in(&format!(r#"(?i)({NAME})\\*["']?\s*[\]}})]?\s*(?:=+>?|:=?|,|\()\s*"#)));

pub(super) fn built_in(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

/// Words that only end like a secret's name, and files that a secret is in.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !["bypass", "compass", "file"].iter().any(|end| name.ends_with(end))
}

/// Whether the word after this one is a secret.
pub(super) fn precedes(word: &str) -> bool {
    OPTION.captures(word).is_some_and(|found| is_secret(&found[1]))
}

/// Where the secret begins in a word that is an assignment or an option with its value: all that follows is of it.
pub(super) fn assigned(word: &str) -> Option<usize> {
    ASSIGNED.captures(word).filter(|found| is_secret(&found[1])).map(|found| found[0].len())
}

/// The values of all settings in a text, without their quotes.
pub(super) fn values(text: &str) -> Vec<Range<usize>> {
    let mut values: Vec<Range<usize>> = Vec::new();
    for found in SETTING.captures_iter(text).filter(|found| is_secret(&found[1])) {
        let from = found[0].len() + found.get(0).map_or(0, |all| all.start());
        if values.last().is_some_and(|last| last.end > from) || text[from..].starts_with(MASKED) {
            continue;
        }
        let value = value(&text[from..]);
        if !value.is_empty() {
            values.push(from + value.start..from + value.end);
        }
    }
    values
}

/// The value that `text` begins with: to the quote that closes it, else as far as it is one.
fn value(text: &str) -> Range<usize> {
    let bytes = text.as_bytes();
    let backslashes = bytes.iter().take_while(|b| **b == b'\\').count();
    match bytes.get(backslashes) {
        Some(quote @ (b'\'' | b'"')) => {
            let from = backslashes + 1;
            let rest = &bytes[backslashes..];
            let close = match backslashes {
                0 => shell::closing(rest, *quote),
                // In a text that is itself quoted its quotes have a backslash as well.
                _ => (1..rest.len()).find(|at| rest[*at] == *quote && rest[..*at].ends_with(b"\\")),
            };
            let end = close.map_or(bytes.len(), |close| backslashes + close);
            // The backslash of the closing quote.
            let end = end - bytes[from..end].iter().rev().take_while(|b| backslashes > 0 && **b == b'\\').count();
            from..end
        }
        _ => 0..bare(text),
    }
}

/// How long a value without quotes is. A comma or `&` ends it only where something else follows, not the value's other half.
fn bare(text: &str) -> usize {
    text.char_indices()
        .find(|(at, c)| match c {
            c if c.is_whitespace() => true,
            '"' | '\'' => true,
            '&' | ',' | ';' | ')' => other_follows(&text[at + 1..]),
            _ => false,
        })
        .map_or(text.len(), |(at, _)| at)
}

/// Whether here no value goes on: the end, a blank, a quote, a bracket, or another name with its value.
fn other_follows(text: &str) -> bool {
    let name = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_.-[]".contains(b)).count();
    match text.as_bytes().get(name) {
        None => name == 0,
        Some(b'=' | b':') => name > 0,
        Some(b) => name == 0 && (b.is_ascii_whitespace() || b"\"'\\;,)&]}".contains(b)),
    }
}
