//! Text in columns of a terminal, of which a character takes none, one or two. Counted as ratatui draws.

use ratatui::{buffer::CellWidth, style::Style, text::Span};

/// How many a text takes.
pub(super) fn columns(text: &str) -> usize {
    parts(text).iter().map(|(_, width)| width).sum()
}

/// Text in exactly so many columns.
pub(super) fn fit(text: &str, width: usize) -> String {
    let (text, used) = begin_of(text, width);
    text + &" ".repeat(width - used)
}

/// The same with the text at the right.
pub(super) fn right(text: &str, width: usize) -> String {
    let (text, used) = begin_of(text, width);
    " ".repeat(width - used) + &text
}

/// The end of a text that has no room: of a path the file.
pub(super) fn end_of(text: &str, room: usize) -> String {
    const CUT: &str = "...";
    if room <= CUT.len() || columns(text) <= room {
        return text.to_owned();
    }
    let parts = parts(text);
    let mut used = CUT.len();
    let fits = |(_, width): &&(&str, usize)| {
        used += width;
        used <= room
    };
    let kept = parts.iter().rev().take_while(fits).count();
    CUT.to_owned() + &parts[parts.len() - kept..].iter().map(|(part, _)| *part).collect::<String>()
}

/// A text broken into rows of so many columns, `most` of them at most.
pub(super) fn rows(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    let mut used = width;
    for (part, wide) in parts(text) {
        if used + wide > width {
            if rows.len() == most {
                break;
            }
            rows.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(row) = rows.last_mut() {
            row.push_str(part);
        }
    }
    rows
}

/// As much as so many columns take, and how many it takes then.
fn begin_of(text: &str, width: usize) -> (String, usize) {
    let mut used = 0;
    let mut kept = String::new();
    for (part, wide) in parts(text) {
        if used + wide > width {
            break;
        }
        used += wide;
        kept.push_str(part);
    }
    (kept, used)
}

/// What a reader takes for characters, each with its width. Control characters are left out, as they are not drawn.
fn parts(text: &str) -> Vec<(&str, usize)> {
    let mut parts = Vec::new();
    let span = Span::raw(text);
    let mut at = 0;
    for grapheme in span.styled_graphemes(Style::new()) {
        // Of the span's own text, which does not live long enough.
        let begin = at + text[at..].find(grapheme.symbol).unwrap_or(0);
        at = begin + grapheme.symbol.len();
        parts.push((&text[begin..at], usize::from(grapheme.symbol.cell_width())));
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_joined_ones_those_of_one() {
        assert_eq!(["abc", "日本", "e\u{301}", "👩‍👩‍👧", ""].map(columns), [3, 4, 1, 2, 0]);
        assert_eq!(fit("日本", 3), "日 ");
        assert_eq!(right("日本", 5), " 日本");
        assert_eq!(end_of("/home/日本/x.pl", 9), ".../x.pl");
        assert_eq!(end_of("/a/b.pl", 7), "/a/b.pl");
        assert_eq!(rows("日本語abc", 5, 9), ["日本", "語abc"]);
        assert_eq!(rows("abcdef", 2, 2), ["ab", "cd"]);
    }

    proptest! {
        #[test]
        fn any_text_takes_as_many_columns_as_it_is_given(text: String, width in 0_usize..40) {
            prop_assert_eq!(columns(&fit(&text, width)), width);
            prop_assert_eq!(columns(&right(&text, width)), width);
            if width > 3 {
                prop_assert!(columns(&end_of(&text, width)) <= width);
            }
            if width > 1 {
                let rows = rows(&text, width, 3);
                prop_assert!(rows.len() <= 3 && rows.iter().all(|row| columns(row) <= width));
            }
        }
    }
}
