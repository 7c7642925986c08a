//! What the server says: replies of one or several lines (RFC 5321, 4.2).
//!
//! [`TABLE`] reads them byte by byte, and notices the keyword CHUNKING, without which BDAT is just an unknown command.

use crate::automaton::{Entry, Table, action::*, letters_as};

/// Set when the text of a line begins with the keyword CHUNKING.
pub const CHUNKING: Entry = MARK_A;
/// Set when a line is no reply.
pub const ODD: Entry = MARK_B;

mod class {
    pub(super) const OTHER: u8 = 0;
    pub(super) const DIGIT: u8 = 1;
    pub(super) const BLANK: u8 = 2;
    pub(super) const DASH: u8 = 3;
    pub(super) const CR: u8 = 4;
    pub(super) const LF: u8 = 5;
    pub(super) const LETTERS: &[u8] = b"CHUNKIG";
    pub(super) const FIRST_LETTER: u8 = 6;
}

pub static CLASS: [u8; 256] = {
    let mut classes = letters_as([class::OTHER; 256], class::LETTERS, class::FIRST_LETTER);
    let mut digit = b'0';
    while digit <= b'9' {
        classes[digit as usize] = class::DIGIT;
        digit += 1;
    }
    classes[b' ' as usize] = class::BLANK;
    classes[b'\t' as usize] = class::BLANK;
    classes[b'-' as usize] = class::DASH;
    classes[b'\r' as usize] = class::CR;
    classes[b'\n' as usize] = class::LF;
    classes
};

mod state {
    /// At the start of a line. 0: fresh storage is zeroed.
    pub(super) const START: u8 = 0;
    pub(super) const DIGIT_1: u8 = 1;
    pub(super) const DIGIT_2: u8 = 2;
    pub(super) const DIGIT_3: u8 = 3;
    /// In the text of a line; after this, in one that is the last of its reply.
    pub(super) const TEXT: u8 = 4;
    pub(super) const LAST_TEXT: u8 = 5;
    /// In a line that is no reply.
    pub(super) const JUNK: u8 = 6;
    /// Eight states for as many letters of the keyword, in either kind of line.
    pub(super) const KEYWORD: u8 = 8;
    pub(super) const LAST_KEYWORD: u8 = 24;
}

const KEYWORD: &[u8] = b"CHUNKING";

/// The start of a line's text and the text itself, which may be the keyword.
const fn text(mut table: Table, keyword: u8, rest: u8, line_end: Entry) -> Table {
    let mut i = 0;
    while i <= KEYWORD.len() {
        let at = keyword + i as u8;
        table = table.all(at, rest as Entry).on(at, class::LF, line_end);
        if i < KEYWORD.len() {
            table = table.on(at, CLASS[KEYWORD[i] as usize], (at + 1) as Entry);
        } else {
            table = table
                .on(at, class::BLANK, rest as Entry | CHUNKING)
                .on(at, class::CR, rest as Entry | CHUNKING)
                .on(at, class::LF, line_end | CHUNKING);
        }
        i += 1;
    }
    table.all(rest, rest as Entry).on(rest, class::LF, line_end)
}

pub static TABLE: Table = {
    let mut table = Table::identity();
    let junk = state::JUNK as Entry | ODD;
    let no_reply = state::START as Entry | ODD;
    let reply_ends = state::START as Entry | END | STOP;
    let digits = [state::START, state::DIGIT_1, state::DIGIT_2];
    let mut i = 0;
    while i < digits.len() {
        let digit = if i == 0 { FIRST_DIGIT } else { DIGIT };
        table = table.all(digits[i], junk).on(digits[i], class::LF, no_reply).on(
            digits[i],
            class::DIGIT,
            (digits[i] + 1) as Entry | digit,
        );
        i += 1;
    }
    table = table
        .all(state::DIGIT_3, junk)
        .on(state::DIGIT_3, class::DASH, state::KEYWORD as Entry)
        .on(state::DIGIT_3, class::BLANK, state::LAST_KEYWORD as Entry)
        .on(state::DIGIT_3, class::CR, state::LAST_TEXT as Entry)
        .on(state::DIGIT_3, class::LF, reply_ends);
    table = text(table, state::KEYWORD, state::TEXT, state::START as Entry);
    table = text(table, state::LAST_KEYWORD, state::LAST_TEXT, reply_ends);
    table.all(state::JUNK, state::JUNK as Entry).on(state::JUNK, class::LF, state::START as Entry)
};
