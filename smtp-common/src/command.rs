//! What the client says: commands, their lines, and the body of a message (RFC 5321, 3030, 4954, 3207).
//!
//! [`TABLE`] reads all of it byte by byte. What a line was is told by the state in which its line feed was met
//! ([`KINDS`]).

use crate::automaton::{Entry, STATES, Table, action::*, letters_as};

/// What the client has sent that gets a reply of its own. Values of the pending queue.
pub mod kind {
    /// Any command that is not told apart: NOOP, VRFY, nonsense.
    pub const OTHER: u8 = 0;
    pub const MAIL: u8 = 1;
    pub const RCPT: u8 = 2;
    pub const DATA: u8 = 3;
    /// The line that ends a message's body.
    pub const END_OF_DATA: u8 = 4;
    pub const BDAT: u8 = 5;
    pub const BDAT_LAST: u8 = 6;
    /// RSET and QUIT, which end a transaction and do no more.
    pub const RESET: u8 = 7;
    pub const HELO: u8 = 8;
    pub const EHLO: u8 = 9;
    pub const LHLO: u8 = 10;
    pub const STARTTLS: u8 = 11;
    pub const AUTH: u8 = 12;
    /// A line that answers a 334.
    pub const AUTH_ANSWER: u8 = 13;
    pub const BURL: u8 = 14;
}

/// One bit for each kind: that of RCPT.
pub const RCPT: u32 = 1 << kind::RCPT;
/// Those that ask what the server offers.
pub const EXTENDED_HELLO: u32 = 1 << kind::EHLO | 1 << kind::LHLO;
/// Those after which a chunk belongs to another message than before.
pub const RESETS: u32 = 1 << kind::MAIL | 1 << kind::RESET | 1 << kind::HELO | 1 << kind::EHLO | 1 << kind::LHLO;

/// Set when a body holds what only some servers take for its end: a dot line with a bare line feed about it.
pub const ODD_END: Entry = MARK_A;
/// Set when a line after such an end begins with MAIL: whoever takes it for the end would take this for a command.
pub const SMUGGLED: Entry = MARK_B;

mod class {
    pub(super) const OTHER: u8 = 0;
    /// Letters and digits that begin no verb.
    pub(super) const WORD: u8 = 1;
    pub(super) const DIGIT: u8 = 2;
    pub(super) const BLANK: u8 = 3;
    pub(super) const CR: u8 = 4;
    pub(super) const LF: u8 = 5;
    pub(super) const DOT: u8 = 6;
    /// The letters of the verbs have the classes from here on, in this order.
    pub(super) const LETTERS: &[u8] = b"ABCDEHILMOPQRSTU";
    pub(super) const FIRST_LETTER: u8 = 7;
}

/// Class of each byte; letters without regard to case.
pub static CLASS: [u8; 256] = {
    let mut classes = [class::OTHER; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            classes[byte] = if (byte as u8).is_ascii_digit() { class::DIGIT } else { class::WORD };
        }
        byte += 1;
    }
    classes = letters_as(classes, class::LETTERS, class::FIRST_LETTER);
    classes[b' ' as usize] = class::BLANK;
    classes[b'\t' as usize] = class::BLANK;
    classes[b'\r' as usize] = class::CR;
    classes[b'\n' as usize] = class::LF;
    classes[b'.' as usize] = class::DOT;
    classes
};

/// States. The first must be 0: fresh storage is zeroed.
pub mod state {
    /// At the start of a command line.
    pub const START: u8 = 0;
    /// In a line that answers a 334.
    pub const AUTH_ANSWER: u8 = 1;
    /// In a body, just after CRLF: where it begins, too.
    pub const BODY: u8 = 2;
    /// In a body, just after a bare line feed.
    pub(super) const BODY_BARE: u8 = 3;
    pub(super) const BODY_CR: u8 = 4;
    pub(super) const BODY_TEXT: u8 = 5;
    pub(super) const BODY_DOT: u8 = 6;
    pub(super) const BODY_DOT_CR: u8 = 7;
    pub(super) const BODY_BARE_DOT: u8 = 8;
    pub(super) const BODY_BARE_DOT_CR: u8 = 9;
    /// The same eight in a body that has had an odd end already.
    pub(super) const ODD: u8 = 10;
    /// "M", "MA", "MAI", "MAIL" at the start of a line of such a body.
    pub(super) const ODD_M: u8 = 18;

    /// The arguments of a command, by its kind: until the line ends.
    pub(super) const ARGUMENTS: u8 = 24;
    /// BDAT: before its number, in it, after it, in the word LAST, after that.
    pub(super) const SIZE_AHEAD: u8 = 40;
    pub(super) const SIZE: u8 = 41;
    pub(super) const SIZE_DONE: u8 = 42;
    pub(super) const L: u8 = 43;
    pub(super) const LA: u8 = 44;
    pub(super) const LAS: u8 = 45;
    pub(super) const LAST: u8 = 46;
    /// Verbs as far as they have been read.
    pub(super) const VERBS: u8 = 47;

    /// Whether a state lies in a message's body.
    #[inline(always)]
    pub const fn is_body(state: u8) -> bool {
        state.wrapping_sub(BODY) < ARGUMENTS - BODY
    }

    /// Whether a state lies in a body outside of any dot line, so that nothing but a dot line can matter.
    #[inline(always)]
    pub const fn is_plain_body(state: u8) -> bool {
        state.wrapping_sub(BODY) <= BODY_TEXT - BODY
    }

    /// Whether a plain body state is at the start of a line.
    #[inline(always)]
    pub const fn is_line_start(state: u8) -> bool {
        state == BODY || state == BODY_BARE
    }

    /// The plain body state after these two bytes.
    #[inline(always)]
    pub const fn after_body_bytes(before: u8, last: u8) -> u8 {
        match (before, last) {
            (b'\r', b'\n') => BODY,
            (_, b'\n') => BODY_BARE,
            (_, b'\r') => BODY_CR,
            _ => BODY_TEXT,
        }
    }
}

/// Verbs, and what the arguments of each are read as.
const VERBS: [(&[u8], u8); 12] = [
    (b"MAIL", kind::MAIL),
    (b"RCPT", kind::RCPT),
    (b"DATA", kind::DATA),
    (b"BDAT", kind::BDAT),
    (b"BURL", kind::BURL),
    (b"RSET", kind::RESET),
    (b"HELO", kind::HELO),
    (b"QUIT", kind::RESET),
    (b"EHLO", kind::EHLO),
    (b"LHLO", kind::LHLO),
    (b"STARTTLS", kind::STARTTLS),
    (b"AUTH", kind::AUTH),
];

const fn letter(byte: u8) -> u8 {
    CLASS[byte as usize]
}

const fn arguments(kind: u8) -> u8 {
    state::ARGUMENTS + kind
}

/// A kind after which the caller must look: what follows it is read in another way.
const fn needs_a_look(kind: u8) -> bool {
    matches!(kind, kind::DATA | kind::BDAT | kind::BDAT_LAST | kind::BURL | kind::STARTTLS | kind::AUTH)
}

const fn line_end(kind: u8) -> Entry {
    state::START as Entry | END | if needs_a_look(kind) { STOP } else { 0 }
}

/// Lets a line of `kind` end here.
const fn ends_as(table: Table, kinds: &mut [u8; STATES], at: u8, kind: u8) -> Table {
    kinds[at as usize] = kind;
    table.on(at, class::LF, line_end(kind))
}

/// What is common to the state after a whole verb, or after BDAT's number or LAST: a letter or digit makes it another word.
const fn no_more_word(mut table: Table, at: u8, junk: u8) -> Table {
    let mut class = class::FIRST_LETTER;
    while (class as usize) < class::FIRST_LETTER as usize + class::LETTERS.len() {
        table = table.on(at, class, junk as Entry);
        class += 1;
    }
    table.on(at, class::WORD, junk as Entry).on(at, class::DIGIT, junk as Entry)
}

const fn body(mut table: Table, base: u8, line_start: Entry, bare_start: Entry) -> Table {
    // The eight states of a plain body, or the same eight shifted by `base` for one that has had an odd end.
    let text = (state::BODY_TEXT + base) as Entry;
    let cr = (state::BODY_CR + base) as Entry;
    let odd = (state::BODY_BARE + state::ODD - state::BODY) as Entry | ODD_END;
    let odd_strict = state::ODD as Entry | ODD_END;
    let mut n = state::BODY;
    while n <= state::BODY_BARE_DOT_CR {
        table = table.all(n + base, text).on(n + base, class::CR, cr).on(n + base, class::LF, bare_start);
        n += 1;
    }
    let dot = (state::BODY_DOT + base) as Entry;
    let bare_dot = (state::BODY_BARE_DOT + base) as Entry;
    table
        .on(state::BODY + base, class::DOT, dot)
        .on(state::BODY_BARE + base, class::DOT, bare_dot)
        .on(state::BODY_CR + base, class::LF, line_start)
        .on(state::BODY_DOT + base, class::CR, (state::BODY_DOT_CR + base) as Entry)
        .on(state::BODY_DOT + base, class::LF, odd)
        .on(state::BODY_DOT_CR + base, class::LF, state::START as Entry | END | STOP)
        .on(state::BODY_BARE_DOT + base, class::CR, (state::BODY_BARE_DOT_CR + base) as Entry)
        .on(state::BODY_BARE_DOT + base, class::LF, odd)
        .on(state::BODY_BARE_DOT_CR + base, class::LF, odd_strict)
}

const BUILT: (Table, [u8; STATES]) = {
    let mut table = Table::identity();
    let mut kinds = [kind::OTHER; STATES];
    let junk = arguments(kind::OTHER);

    // Until the line ends, whatever it holds.
    let mut k = kind::OTHER;
    while k <= kind::BURL {
        table = ends_as(table, &mut kinds, arguments(k), k);
        k += 1;
    }
    table = table.on(state::AUTH_ANSWER, class::LF, state::START as Entry | END | STOP);
    kinds[state::AUTH_ANSWER as usize] = kind::AUTH_ANSWER;

    // A line begins: blanks are passed over.
    table = table.all(state::START, junk as Entry).on(state::START, class::BLANK, state::START as Entry);
    table = ends_as(table, &mut kinds, state::START, kind::OTHER);

    // The verbs, as a tree.
    let mut next_state = state::VERBS;
    let mut v = 0;
    while v < VERBS.len() {
        let (verb, kind) = VERBS[v];
        let mut at = state::START;
        let mut i = 0;
        while i < verb.len() {
            let class = letter(verb[i]);
            let slot = at as usize * crate::automaton::CLASSES + class as usize;
            let known = (table.0[slot] & STATE) as u8;
            if known >= state::VERBS {
                at = known;
            } else {
                table = table.on(at, class, next_state as Entry).all(next_state, junk as Entry);
                table = ends_as(table, &mut kinds, next_state, kind::OTHER);
                at = next_state;
                next_state += 1;
            }
            i += 1;
        }
        let after = if kind == kind::BDAT { state::SIZE_AHEAD } else { arguments(kind) };
        table = no_more_word(table.all(at, after as Entry), at, junk);
        // BDAT without a size is an error to every server, and has no chunk.
        table = ends_as(table, &mut kinds, at, if kind == kind::BDAT { kind::OTHER } else { kind });
        v += 1;
    }
    assert!(next_state as usize <= STATES);

    // BDAT SP size [SP LAST]
    table = table
        .all(state::SIZE_AHEAD, junk as Entry)
        .on(state::SIZE_AHEAD, class::BLANK, state::SIZE_AHEAD as Entry)
        .on(state::SIZE_AHEAD, class::CR, state::SIZE_AHEAD as Entry)
        .on(state::SIZE_AHEAD, class::DIGIT, state::SIZE as Entry | FIRST_DIGIT);
    table = ends_as(table, &mut kinds, state::SIZE_AHEAD, kind::OTHER);
    table = table
        .all(state::SIZE, junk as Entry)
        .on(state::SIZE, class::DIGIT, state::SIZE as Entry | DIGIT)
        .on(state::SIZE, class::BLANK, state::SIZE_DONE as Entry)
        .on(state::SIZE, class::CR, state::SIZE_DONE as Entry);
    table = ends_as(table, &mut kinds, state::SIZE, kind::BDAT);
    table = table
        .all(state::SIZE_DONE, arguments(kind::BDAT) as Entry)
        .on(state::SIZE_DONE, class::BLANK, state::SIZE_DONE as Entry)
        .on(state::SIZE_DONE, letter(b'L'), state::L as Entry);
    table = ends_as(table, &mut kinds, state::SIZE_DONE, kind::BDAT);
    let word = [(state::L, b'A'), (state::LA, b'S'), (state::LAS, b'T')];
    let mut i = 0;
    while i < word.len() {
        let (at, byte) = word[i];
        table = table.all(at, arguments(kind::BDAT) as Entry).on(at, letter(byte), (at + 1) as Entry);
        table = ends_as(table, &mut kinds, at, kind::BDAT);
        i += 1;
    }
    table =
        no_more_word(table.all(state::LAST, arguments(kind::BDAT_LAST) as Entry), state::LAST, arguments(kind::BDAT));
    table = ends_as(table, &mut kinds, state::LAST, kind::BDAT_LAST);

    // Bodies.
    let shift = state::ODD - state::BODY;
    table = body(table, 0, state::BODY as Entry, state::BODY_BARE as Entry);
    table = body(table, shift, state::ODD as Entry, (state::BODY_BARE + shift) as Entry);
    kinds[state::BODY_DOT_CR as usize] = kind::END_OF_DATA;
    kinds[(state::BODY_DOT_CR + shift) as usize] = kind::END_OF_DATA;
    // After an odd end, "MAIL" and a blank at the start of a line.
    let text = (state::BODY_TEXT + shift) as Entry;
    let mail = b"MAIL";
    table = table.on(state::ODD, letter(b'M'), state::ODD_M as Entry).on(
        state::BODY_BARE + shift,
        letter(b'M'),
        state::ODD_M as Entry,
    );
    let mut i = 1;
    while i <= mail.len() {
        let at = state::ODD_M + i as u8 - 1;
        table = table.all(at, text).on(at, class::CR, (state::BODY_CR + shift) as Entry).on(
            at,
            class::LF,
            (state::BODY_BARE + shift) as Entry,
        );
        table = if i < mail.len() {
            table.on(at, letter(mail[i]), (at + 1) as Entry)
        } else {
            table.on(at, class::BLANK, text | SMUGGLED)
        };
        i += 1;
    }
    (table, kinds)
};

pub static TABLE: Table = BUILT.0;

/// What a line is that ends in this state.
pub static KINDS: [u8; STATES] = BUILT.1;
