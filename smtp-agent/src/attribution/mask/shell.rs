//! Where a shell would see commands and words in a text. The text is one that [`printable`] has made: what was a backslash is
//! two of them, and a line's end is `\n` in letters.
//!
//! [`printable`]: crate::accounts::label::printable

use std::ops::Range;

/// What ends a command. Braces and redirections are words like others: nothing is told by their absence.
const SEPARATORS: &[u8] = b";|&()`";

/// The words of each simple command in `text`. A quoted part is of its word, quotes included; a quote that is never closed
/// is a letter.
pub(super) fn commands(text: &str) -> Vec<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let mut commands = vec![Vec::new()];
    let mut begun: Option<usize> = None;
    let mut at = 0;
    while at < bytes.len() {
        let blank = blank(&bytes[at..]);
        let redirects =
            bytes[at] == b'&' && (at > 0 && matches!(bytes[at - 1], b'<' | b'>') || bytes.get(at + 1) == Some(&b'>'));
        let separates = SEPARATORS.contains(&bytes[at]) && !redirects;
        if blank > 0 || separates {
            if let (Some(from), Some(command)) = (begun.take(), commands.last_mut()) {
                command.push(from..at);
            }
            if separates || bytes[at] == b'\\' {
                commands.push(Vec::new());
            }
            at += blank.max(1);
            continue;
        }
        begun.get_or_insert(at);
        at += match bytes[at] {
            quote @ (b'\'' | b'"') => closing(&bytes[at..], quote).map_or(1, |close| close + 1),
            b'\\' => escaped(&bytes[at..]),
            _ => 1,
        };
    }
    if let (Some(from), Some(command)) = (begun, commands.last_mut()) {
        command.push(from..bytes.len());
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// Whether the text can be more than one word.
pub(super) fn has_blanks(text: &str) -> bool {
    (0..text.len()).any(|at| blank(&text.as_bytes()[at..]) > 0)
}

/// How long the blank is that `bytes` begin with. A line's end separates commands too.
fn blank(bytes: &[u8]) -> usize {
    match bytes {
        [b' ', ..] => 1,
        [b'\\', b'n' | b'r' | b't', ..] => 2,
        _ => 0,
    }
}

/// Where the quote that `bytes` begin with is closed.
pub(super) fn closing(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b if b == quote => return Some(at),
            b'\\' if quote == b'"' => at += escaped(&bytes[at..]),
            _ => at += 1,
        }
    }
    None
}

/// How long a backslash is with what it takes the meaning of.
fn escaped(bytes: &[u8]) -> usize {
    match bytes {
        [b'\\', b'\\', b'\\', b'\\', ..] => 4,
        // No letter of more than one octet is cut in two.
        [b'\\', b'\\', next, ..] if next.is_ascii() => 3,
        [b'\\', b'\\', ..] => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<Vec<&str>> {
        commands(text).into_iter().map(|command| command.into_iter().map(|word| &text[word]).collect()).collect()
    }

    #[test]
    fn commands_and_words_are_split_as_a_shell_does() {
        for (text, expected) in [
            ("a -b c | d;e&&f", vec![vec!["a", "-b", "c"], vec!["d"], vec!["e"], vec!["f"]]),
            (r#"a 'b c'"d e" "x\\" y" z"#, vec![vec!["a", r#"'b c'"d e""#, r#""x\\" y""#, "z"]]),
            (r"a\nb c\td", vec![vec!["a"], vec!["b", "c"], vec!["d"]]),
            ("it's a", vec![vec!["it's", "a"]]),
            ("a 2>&1 b &> c", vec![vec!["a", "2>&1", "b", "&>", "c"]]),
            ("$(a b) `c`", vec![vec!["$"], vec!["a", "b"], vec!["c"]]),
            (r"a\\ b", vec![vec![r"a\\ b"]]),
            ("  ", vec![]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_range_is_text_and_they_follow_one_another(text in r#"([a-z"' ;|&()\\ü]|\PC){0,40}"#) {
            let mut end = 0;
            for word in commands(&text).into_iter().flatten() {
                prop_assert!(word.start >= end && text.get(word.clone()).is_some_and(|word| !word.is_empty()));
                end = word.end;
            }
        }
    }
}
