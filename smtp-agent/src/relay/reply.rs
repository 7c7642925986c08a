//! What a server says: replies of one line or several (RFC 5321, 4.2), read octet by octet and never beyond a bound.

use std::mem;

use crate::accounts::label::printable;

/// RFC 5321 allows 512 octets; servers that say more than this are not read on.
pub(super) const LONGEST_LINE: usize = 2_000;
/// More lines than any greeting or EHLO has.
pub(super) const MOST_LINES: usize = 100;
/// How much of a line is kept.
const SHOWN: usize = 240;

/// One reply, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// Each line with its code, safe to print and cut to a bounded length.
    pub(super) lines: Vec<String>,
}

impl Reply {
    pub(super) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    pub(super) fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// The first word after the code, which in a greeting is the server's name.
    pub(super) fn first_word(&self) -> Option<&str> {
        self.lines.first()?.get(4..)?.split_whitespace().next()
    }
}

/// Why what came is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    LineTooLong,
    TooManyLines,
    /// The line, as far as it is shown.
    NotSmtp(String),
    /// A reply of several lines whose codes differ.
    CodesDiffer,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LineTooLong => write!(f, "a line of more than {LONGEST_LINE} octets came"),
            Self::TooManyLines => write!(f, "a reply of more than {MOST_LINES} lines came"),
            Self::NotSmtp(line) => write!(f, "what came is not SMTP: {line:?}"),
            Self::CodesDiffer => f.write_str("a reply came whose lines have different codes"),
        }
    }
}

/// Puts replies together.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    code: Option<u16>,
    lines: Vec<String>,
}

impl Reader {
    /// Takes one octet; a reply when it was the last of one. After a fault nothing that follows can be understood.
    pub(super) fn push(&mut self, octet: u8) -> Result<Option<Reply>, Fault> {
        if octet != b'\n' {
            self.line.push(octet);
            return if self.line.len() > LONGEST_LINE { Err(Fault::LineTooLong) } else { Ok(None) };
        }
        let mut line = mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let Some((code, last)) = parse(&line) else { return Err(Fault::NotSmtp(shown(&line))) };
        if self.code.is_some_and(|first| first != code) {
            return Err(Fault::CodesDiffer);
        }
        if self.lines.len() == MOST_LINES {
            return Err(Fault::TooManyLines);
        }
        self.code = Some(code);
        self.lines.push(shown(&line));
        if !last {
            return Ok(None);
        }
        self.code = None;
        Ok(Some(Reply { code, lines: mem::take(&mut self.lines) }))
    }

    /// What has come of a reply that is not whole.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = String> {
        let rest = (!self.line.is_empty()).then(|| shown(&self.line));
        self.lines.iter().cloned().chain(rest)
    }
}

/// The code of a line, and whether it is the reply's last.
fn parse(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.first_chunk::<3>()?;
    // 3xx goes on with what is never sent here: whoever says it talks about something else.
    if !matches!(digits[0], b'2' | b'4' | b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        // Some servers leave the blank out where no text follows.
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

/// Cut before it is escaped: an escape is never cut in two.
fn shown(line: &[u8]) -> String {
    let mut text = printable(&line[..line.len().min(SHOWN)]);
    if line.len() > SHOWN {
        text.push('…');
    }
    text
}
