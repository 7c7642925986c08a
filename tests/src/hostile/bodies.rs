//! Texts that look like everything but texts.

use fastrand::Rng;

/// Lines of commands and answers, and what almost ends a message. None of them has a CRLF.
const LINES: [&str; 18] = [
    "DATA",
    "RSET",
    "QUIT",
    "STARTTLS",
    "BDAT 100 LAST",
    "MAIL FROM:<x@far.test>",
    "RCPT TO:<y+rcpt550@far.test>",
    "EHLO body.test",
    "354 go ahead",
    "250 ok",
    "250-CHUNKING",
    "550 5.1.1 no such user",
    "",
    "x\n.\ny",
    "x\r.\ry",
    "x\r\r\r",
    "a\0b\0",
    "x\n.\n.\nMAIL FROM:<x@far.test>\nDATA\ny",
];

/// A line as DATA wants it: with its end, a leading dot doubled.
fn stuffed(line: &str) -> String {
    let dot = if line.starts_with('.') { "." } else { "" };
    format!("{dot}{line}\r\n")
}

/// Look-alikes that stand across line ends: each begins after a character of its own, and ends with CRLF.
const ACROSS: [&str; 6] = ["x\n.\r\n", "x\r\n.\n\r\n", "x\r.\r\n", "x\r\n..\r\n", "x\r\n.\r\r\n", "x\r\n.x\r\n"];

/// The text that follows 354, with the dot that ends it.
pub(super) fn body(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    match rng.u32(0..20) {
        0 => (0..100_000).for_each(|n| text += &stuffed(LINES[n % LINES.len()])),
        1 => text = "\0".repeat(10) + &"x".repeat(1_000_000) + "\r\n",
        2 => {}
        3 => text = "\r\n".repeat(rng.usize(1..5)),
        _ => {
            for _ in 0..rng.usize(1..40) {
                text += &match rng.u32(0..5) {
                    0 => ACROSS[rng.usize(..ACROSS.len())].to_string(),
                    1 => stuffed(&".".repeat(rng.usize(1..4))),
                    _ => stuffed(LINES[rng.usize(..LINES.len())]),
                };
            }
        }
    }
    debug_assert!(!ends_early(text.as_bytes()), "{text:?}");
    text += ".\r\n";
    text.into_bytes()
}

/// A chunk, which may hold anything at all.
pub(super) fn chunk(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(0..8) {
        0 => Vec::new(),
        1 => vec![rng.u8(..)],
        2 => "\r\n.\r\nRSET\r\nMAIL FROM:<x@far.test>\r\nQUIT\r\n".repeat(rng.usize(1..4)).into_bytes(),
        3 => "BDAT 5\r\n12345BDAT 0 LAST\r\n250 ok\r\n354 go ahead\r\n".into(),
        4 => (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect(),
        5 => vec![b'\n'; rng.usize(1..3000)],
        6 => b"DATA\r\n".repeat(rng.usize(1..40_000)),
        _ => body(rng),
    }
}

/// Whether a text that begins a line is over before it shall be.
fn ends_early(text: &[u8]) -> bool {
    text.starts_with(b".\r\n") || text.windows(5).any(|window| window == b"\r\n.\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_at_its_end_and_nowhere_before() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..500 {
            let body = body(&mut rng);
            let text = body.strip_suffix(b".\r\n").expect("a dot");
            assert!((text.is_empty() || text.ends_with(b"\r\n")) && !ends_early(text));
        }
    }
}
