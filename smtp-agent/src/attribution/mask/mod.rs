//! Secrets in command lines, which everybody's history, reports and mails would keep.
//!
//! A word with blanks may be a whole command line (`sh -c`, cron, a title that was written over): it is read as a shell
//! would, and each command in it is masked as one of its own.

mod option;
mod setting;
mod shell;

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use crate::config::{Attribution, Masking};
use option::Said;
use setting::built_in;

/// What stands where a secret was.
pub const MASKED: &str = "***";

/// Command lines within command lines that are looked into: `ssh host "su -c 'sh -c …'"`.
const DEPTH: u32 = 6;

/// What is masked.
#[derive(Debug, Clone, Default)]
pub enum Mask {
    /// What looks like a secret, and what matches one of these: the first group of each, or the whole.
    Secrets(Vec<Regex>),
    /// All but the program and the words that are file names or options; and what looks like a secret.
    Arguments,
    #[default]
    Nothing,
}

/// `scheme://user:secret@host`: up to the last `@`, which neither may have in a name but many have in an address.
static URL: LazyLock<Regex> = LazyLock::new(|| built_in(r"(?i)[a-z][a-z0-9+.\-]*://[^\s/:]*:([^\s/]+)@"));

/// `Authorization: Basic secret`, `Bearer secret`.
static HEADER: LazyLock<Regex> =
    LazyLock::new(|| built_in(r"(?i)(?:authorization:\s*(?:[a-z]+\s+)?|\bbearer\s+)([a-z0-9._~+/=\-]+)"));

/// SQL's `IDENTIFIED BY 'secret'`.
static IDENTIFIED: LazyLock<Regex> = LazyLock::new(|| {
    built_in(r#"(?i)\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?[\\"']*([^"'\\;]+)"#)
});

/// Tokens that say by their beginning what they are.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    built_in(
        r"\b((?:gh[pousr]_|github_pat_|glpat-|sk_live_|rk_live_|sk-|xox[abprs]-|SG\.|AKIA|ASIA|AIza|ya29\.|eyJ[A-Za-z0-9_\-]{8,}\.)[A-Za-z0-9_.\-]{8,})",
    )
});

impl Mask {
    pub fn of(config: &Attribution) -> Self {
        match config.mask {
            // Each was tried when the configuration was read.
            Masking::Secrets => {
                Self::Secrets(config.mask_also.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect())
            }
            Masking::Arguments => Self::Arguments,
            Masking::Nothing => Self::Nothing,
        }
    }

    /// The words of a command line without what is secret. They are text that is safe to show.
    pub fn apply(&self, words: &mut [String]) {
        match self {
            Self::Nothing => {}
            Self::Arguments => {
                secrets(words, &[]);
                arguments(words);
            }
            Self::Secrets(more) => secrets(words, more),
        }
    }
}

/// Of the program its name; of options those of one letter, and the names of long ones; file names.
fn arguments(words: &mut [String]) {
    for (at, word) in words.iter_mut().enumerate() {
        if at == 0 {
            // A title that was written over has a whole command line in its first word.
            if let Some(end) = word.find([' ', '=']) {
                word.replace_range(end + 1.., MASKED);
            }
            continue;
        }
        let name = word.split('=').next().unwrap_or_default();
        let is_long = name.strip_prefix("--").is_some_and(|name| {
            name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
        let is_short = word.len() == 2 && word.starts_with('-');
        let is_path = word.starts_with('/') && !word.contains([' ', '=', '?', '&', ':', '@']);
        if is_long && name.len() < word.len() {
            *word = format!("{name}={MASKED}");
        } else if !is_long && !is_short && !is_path {
            MASKED.clone_into(word);
        }
    }
}

fn secrets(words: &mut [String], more: &[Regex]) {
    command(words, From::Arguments, DEPTH);
    for word in words {
        for value in setting::values(word).into_iter().rev() {
            word.replace_range(value, MASKED);
        }
        for pattern in [&*URL, &*HEADER, &*IDENTIFIED, &*TOKEN].into_iter().chain(more) {
            cover(word, pattern);
        }
    }
}

/// Whether the words are arguments of a process or were read in a text, where each quoted one has its quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Arguments,
    Text,
}

/// Masks what the words of one command say of each other, and in the command lines within them, as deep as `depth`.
fn command(words: &mut [String], from: From, depth: u32) {
    htpasswd(words);
    let mut program = None;
    let mut said = Said::Nothing;
    // A title that was written over; what follows `-c` of a shell.
    let mut is_line = from == From::Arguments;
    for word in words {
        match std::mem::replace(&mut said, Said::Nothing) {
            Said::Next if !word.is_empty() => {
                MASKED.clone_into(word);
                continue;
            }
            Said::CredentialsNext(separators) => {
                mask_behind(word, 0, separators);
                continue;
            }
            _ => {}
        }
        let quoted = if from == From::Text { unquoted(word) } else { 0..word.len() };
        let bare = word[quoted.clone()].to_owned();
        let has_blanks = shell::has_blanks(&bare);
        if let Some(value) = setting::assigned(word).filter(|_| !(is_line && has_blanks)) {
            word.replace_range(value.., MASKED);
            continue;
        }
        if has_blanks {
            if let Some(depth) = depth.checked_sub(1) {
                word.replace_range(quoted, &line(&bare, depth));
            }
            is_line = false;
            continue;
        }
        // glibc's popen(3) and system(3) run `sh -c -- LINE`.
        is_line = is_line && bare == "--" || bare == "--command" || is_short(&bare) && bare.ends_with('c');
        if setting::precedes(&bare) {
            said = Said::Next;
        } else if let Some(found) = option::program(&bare) {
            program = Some(found);
        } else if let Some(program) = program {
            said = match program.says(&bare) {
                Said::From(at) => {
                    word.replace_range(quoted.start + at..quoted.end, MASKED);
                    Said::Nothing
                }
                Said::CredentialsFrom(at, separators) => {
                    mask_behind(word, quoted.start + at, separators);
                    Said::Nothing
                }
                next => next,
            };
        }
    }
}

/// A text that may be a command line, masked.
fn line(text: &str, depth: u32) -> String {
    let mut masked = text.to_owned();
    for ranges in shell::commands(text).into_iter().rev() {
        let mut words: Vec<_> = ranges.iter().map(|range| text[range.clone()].to_owned()).collect();
        command(&mut words, From::Text, depth);
        for (range, word) in ranges.into_iter().zip(words).rev() {
            masked.replace_range(range, &word);
        }
    }
    masked
}

/// `htpasswd -b FILE USER SECRET`.
fn htpasswd(words: &mut [String]) {
    let Some(at) = words.iter().position(|word| word.rsplit('/').next() == Some("htpasswd")) else { return };
    let arguments = &mut words[at + 1..];
    if arguments.iter().any(|word| is_short(word) && word.contains('b'))
        && let Some(last) = arguments.last_mut()
    {
        MASKED.clone_into(last);
    }
}

fn is_short(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && !word.starts_with("--")
}

/// The part of a word within its quotes; all of it, where it has none.
fn unquoted(word: &str) -> Range<usize> {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let from = match word.find(['"', '\'']) {
        // `NAME='a command'`, `$(…)` in quotes: the first quote may stand within.
        Some(at) if word.contains(' ') => at + 1,
        _ => word.len() - word.trim_start_matches(QUOTES).len(),
    };
    let to = word.trim_end_matches(QUOTES).len();
    if from == 0 || to <= from { 0..word.len() } else { from..to }
}

/// Masks what is behind the first separator from an octet on.
fn mask_behind(word: &mut String, from: usize, separators: &[char]) {
    if let Some(at) = word.get(from..).and_then(|rest| rest.find(separators)) {
        word.truncate(from + at + 1);
        word.push_str(MASKED);
    }
}

/// Puts [`MASKED`] where the pattern's first group is, or all of it where it has none.
fn cover(word: &mut String, pattern: &Regex) {
    let found: Vec<_> = pattern
        .captures_iter(word)
        .filter_map(|captures| captures.get(1).or(captures.get(0)).map(|group| group.range()))
        .filter(|range| !range.is_empty())
        .collect();
    for range in found.into_iter().rev() {
        word.replace_range(range, MASKED);
    }
}

#[cfg(test)]
mod tests;
