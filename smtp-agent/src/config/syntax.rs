//! TOML to a tree with positions, and the parser's findings in plain words.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use toml::{Spanned, de::DeTable};

use super::{
    place::{Place, Source},
    problem::{Problem, Problems},
    render::quoted,
};

/// What the parser made of a file.
pub(super) struct Parsed<'s> {
    pub(super) root: Spanned<DeTable<'s>>,
    /// Lines (from 0) whose content the parser had to guess: what it read there may not be what was meant.
    /// Ascending and disjoint.
    pub(super) guessed: Vec<Range<usize>>,
}

/// Parses on after errors. They are reported once per line: further ones there are mostly echoes of the first.
pub(super) fn parse<'s>(source: &'s Arc<Source>, problems: &mut Problems) -> Parsed<'s> {
    let (root, errors) = DeTable::parse_recoverable(source.text());
    let mut first_of_line = BTreeMap::new();
    for error in &errors {
        let place = Place::new(source, error.span().unwrap_or(0..0));
        first_of_line.entry(place.line() - 1).or_insert((place, error.message()));
    }
    let mut guessed: Vec<Range<usize>> = Vec::new();
    for (line, (place, message)) in first_of_line {
        let end = end_of_damage(source, line);
        match guessed.last_mut() {
            Some(last) if line < last.end => last.end = last.end.max(end),
            _ => guessed.push(line..end),
        }
        if problems.is_full() {
            problems.push(Problem::error(message).at(place));
        } else {
            problems.push(explain(message, place));
        }
    }
    Parsed { root, guessed }
}

/// A broken value spoils its line. A broken header spoils its table: keys below it land elsewhere or nowhere.
fn end_of_damage(source: &Source, line: usize) -> usize {
    let is_header = |line: usize| source.line(line).trim_start().starts_with('[');
    if !is_header(line) {
        return line + 1;
    }
    (line + 1..source.line_count()).find(|&next| is_header(next)).unwrap_or(source.line_count())
}

/// The parser's terse message as a sentence with advice, for the slips that people make.
fn explain(message: &str, place: Place) -> Problem {
    let source = Arc::clone(place.source());
    let found = &source.text()[place.range()];
    let (before, after) = source.text().split_at(place.range().start);
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let (sentence, hint) = match what {
        "string values must be quoted" if found.trim().is_empty() => {
            ("the value is missing".to_owned(), Some("write a value after `=`, or remove the key".to_owned()))
        }
        "string values must be quoted" => ("this is not a value; a text must be in quotes".to_owned(), unquoted(found)),
        "duplicate key" => (
            format!("`{}` is there twice", quoted(found)),
            Some("a key or a table can stand only once in a file: merge them or remove one".to_owned()),
        ),
        "key with no value" => {
            let colon = before.trim_end().ends_with(':') || after.trim_start().starts_with(':');
            let advice = if colon { "with `=`, not `:`" } else { "as `key = value`" };
            ("there is no `=` after this key".to_owned(), Some(format!("write it {advice}")))
        }
        "unexpected key or value" => (
            "this is one thing too many on the line".to_owned(),
            Some("begin a new line, or put `#` before a comment".to_owned()),
        ),
        "invalid basic string" | "invalid literal string" if expected == "`\"`" || expected == "`'`" => {
            ("the text has no closing quote".to_owned(), Some(format!("close it with {expected} on the same line")))
        }
        "invalid basic string" | "invalid literal string" => {
            ("a text cannot hold this character".to_owned(), Some("remove it".to_owned()))
        }
        "missing escaped value" => {
            let hint = r"write `\\` for a backslash, or put the text in single quotes";
            ("a backslash begins an escape, and this is none".to_owned(), Some(hint.to_owned()))
        }
        "unclosed table" | "unclosed array table" => {
            ("the header is not closed".to_owned(), Some(format!("add {expected}")))
        }
        "missing comma between array elements" => (
            "a comma is missing between the elements of a list".to_owned(),
            Some("add `,` before this, or close the list with `]`".to_owned()),
        ),
        "unclosed array" => ("the list is not closed".to_owned(), Some("add `]`".to_owned())),
        "cannot recurse further; max recursion depth met" | "recursion limit" => {
            ("nested too deeply".to_owned(), Some("no key of this file needs more than three levels".to_owned()))
        }
        _ if expected == "nothing" => (what.to_owned(), Some("remove it".to_owned())),
        _ => (message.to_owned(), None),
    };
    Problem::error(sentence).at(place).hint_opt(hint)
}

fn unquoted(found: &str) -> Option<String> {
    let word = found.trim();
    match word.to_lowercase().as_str() {
        "yes" | "on" => return Some("write true".to_owned()),
        "no" => return Some("write false".to_owned()),
        "true" | "false" => return Some(format!("write {}, in small letters", word.to_lowercase())),
        _ => {}
    }
    let simple = word.chars().all(|c| c.is_alphanumeric() || "_-./:@".contains(c));
    simple.then(|| format!("write \"{}\"", quoted(word)))
}
