//! The text after DATA, up to the dot that ends it, however its bytes are cut.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Inside a line.
    Line,
    /// After a CR.
    Cr,
    /// At the beginning of a line.
    Start,
    /// After a dot that begins a line.
    Dot,
    /// After such a dot and a CR.
    DotCr,
}

pub(super) struct Body {
    text: Vec<u8>,
    place: Place,
    /// A lone LF ends a line too, as some servers have it.
    bare_lf: bool,
}

impl Body {
    pub(super) fn new(bare_lf: bool) -> Self {
        Self { text: Vec::new(), place: Place::Start, bare_lf }
    }

    /// Takes bytes in up to the end of the body; how many, and whether the end was among them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (n, &byte) in bytes.iter().enumerate() {
            if self.push(byte) {
                return (n + 1, true);
            }
        }
        (bytes.len(), false)
    }

    /// The text without the dots that stood for others.
    pub(super) fn into_text(self) -> Vec<u8> {
        self.text
    }

    fn push(&mut self, byte: u8) -> bool {
        match (self.place, byte) {
            (Place::Start, b'.') => {
                self.place = Place::Dot;
                return false;
            }
            (Place::Dot, b'\r') => {
                self.place = Place::DotCr;
                return false;
            }
            (Place::DotCr, b'\n') => return true,
            (Place::Dot, b'\n') if self.bare_lf => return true,
            (Place::DotCr, _) => {
                self.text.push(b'\r');
                self.place = Place::Cr;
            }
            _ => {}
        }
        self.text.push(byte);
        self.place = match (self.place, byte) {
            (Place::Cr, b'\n') => Place::Start,
            (_, b'\n') if self.bare_lf => Place::Start,
            (_, b'\r') => Place::Cr,
            _ => Place::Line,
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(bytes: &str, bare_lf: bool, text: &str, rest: &str) {
        for cut in [1, 3, 100] {
            let (mut body, mut taken) = (Body::new(bare_lf), 0);
            let ended = bytes.as_bytes().chunks(cut).any(|piece| {
                let (count, ended) = body.take(piece);
                taken += count;
                ended
            });
            assert!(ended, "{bytes:?} in pieces of {cut}");
            assert_eq!((String::from_utf8(body.into_text()).unwrap().as_str(), &bytes[taken..]), (text, rest));
        }
    }

    #[test]
    fn only_a_dot_between_crlfs_ends_it() {
        case(".\r\nNOOP", false, "", "NOOP");
        case("a\r\n..b\r\n.\r\n", false, "a\r\n.b\r\n", "");
        for lookalike in ["\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\rx", "\r\n.\r\r\n", "\r\n..\r\n"] {
            let text = lookalike.replace("\r\n.", "\r\n");
            case(&format!("a{lookalike}b\r\n.\r\n"), false, &format!("a{text}b\r\n"), "");
        }
    }

    #[test]
    fn a_lenient_server_also_ends_it_between_lone_lfs() {
        case("a\n.\nRSET", true, "a\n", "RSET");
        case("a\n.\r\nRSET", true, "a\n", "RSET");
        case("a\r\n.\nRSET", true, "a\r\n", "RSET");
        case("a\r.\r\n.\nRSET", true, "a\r.\r\n", "RSET");
    }
}
