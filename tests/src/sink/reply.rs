//! Answers of a sink, and what it knows about them.

use std::time::Duration;

/// One answer: its text, when it comes, and whether the connection outlives it.
#[derive(Clone, Debug)]
pub struct Reply {
    text: String,
    code: u16,
    pub(super) delay: Duration,
    pub(super) closes: bool,
}

impl Reply {
    /// An answer of several lines, with the code before each.
    #[track_caller]
    pub fn lines(code: u16, lines: &[&str]) -> Self {
        let mut text = String::new();
        for (n, line) in lines.iter().enumerate() {
            let dash = if n + 1 == lines.len() { ' ' } else { '-' };
            text += &format!("{code}{dash}{line}\r\n");
        }
        Self::from(text)
    }

    /// No answer at all: the sink hangs, and hears nothing more on this connection.
    pub fn never() -> Self {
        Self { text: String::new(), code: 0, delay: Duration::ZERO, closes: false }
    }

    /// Comes only after this time; what the client says meanwhile waits.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The connection ends with it, as it always does with 421.
    pub fn then_close(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn is_never(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether a line of it offers this ESMTP extension.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        // The first line names the server.
        let keywords = self.text.lines().skip(1).filter_map(|line| line.get(4..)?.split(' ').next());
        self.code / 100 == 2 && keywords.into_iter().any(|found| found.eq_ignore_ascii_case(keyword))
    }
}

/// The text as it shall travel, its last line end apart; several lines are separated by CRLF.
impl From<&str> for Reply {
    #[track_caller]
    fn from(text: &str) -> Self {
        let text = text.trim_end_matches(['\r', '\n']);
        let last = text.rsplit('\n').next().unwrap_or(text);
        let code = last.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(code) = code.and_then(|code| code.parse().ok()) else {
            panic!("an answer begins with three digits, unlike {text:?}")
        };
        Self { text: format!("{text}\r\n"), code, delay: Duration::ZERO, closes: code == 421 }
    }
}

impl From<String> for Reply {
    #[track_caller]
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_several_lines_has_the_code_of_its_last() {
        let reply = Reply::lines(451, &["not now", "", "later"]);
        assert_eq!((reply.bytes(), reply.code()), (&b"451-not now\r\n451-\r\n451 later\r\n"[..], 451));
        assert_eq!(Reply::from("250-a\r\n550 b\r\n").code(), 550);
        assert!(Reply::from("421 bye").closes && !Reply::from("422 no").closes);
    }

    #[test]
    fn keywords_are_offered_by_good_answers_after_their_first_line() {
        let offers = |text: &str| Reply::from(text).offers("CHUNKING");
        assert!(offers("250-a\r\n250 chunking"));
        assert!(!offers("250 CHUNKING") && !offers("550-a\r\n550 CHUNKING") && !offers("250-a\r\n250 CHUNKINGS"));
    }
}
