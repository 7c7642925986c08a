//! One SMTP conversation, as bytes in and bytes out: enough of RFC 5321, 2920 (PIPELINING) and 3030
//! (CHUNKING) for exim, postfix and swaks.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

/// Where in a conversation an answer can be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    Connect,
    Hello,
    Mail,
    Rcpt,
    /// The answer to DATA itself, before the message. BDAT has none.
    Data,
    /// The answer to the whole message.
    Message,
}

/// A message the sink has said 250 to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub peer: SocketAddr,
    /// Reverse path without the angle brackets; empty for bounces.
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, with line ends as they came and dots unstuffed.
    pub text: String,
    pub chunked: bool,
}

enum Mode {
    Commands,
    Data,
    Chunk { left: usize, last: bool },
    Over,
}

pub(super) struct Session {
    peer: SocketAddr,
    chunking: bool,
    answers: Arc<HashMap<Stage, String>>,
    mode: Mode,
    input: Vec<u8>,
    from: Option<String>,
    to: Vec<String>,
    text: Vec<u8>,
    done: Vec<Message>,
}

impl Session {
    pub(super) fn new(peer: SocketAddr, chunking: bool, answers: Arc<HashMap<Stage, String>>) -> Self {
        Self {
            peer,
            chunking,
            answers,
            mode: Mode::Commands,
            input: Vec::new(),
            from: None,
            to: Vec::new(),
            text: Vec::new(),
            done: Vec::new(),
        }
    }

    pub(super) fn greeting(&self) -> Vec<u8> {
        let line = self.answers.get(&Stage::Connect).map_or("220 sink.test ESMTP", String::as_str);
        format!("{line}\r\n").into_bytes()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.mode, Mode::Over)
    }

    pub(super) fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.done)
    }

    /// Takes in bytes, however they are cut, and appends the answers.
    pub(super) fn feed(&mut self, bytes: &[u8], answers: &mut Vec<u8>) {
        self.input.extend_from_slice(bytes);
        loop {
            let reply = match self.mode {
                Mode::Over => return,
                Mode::Chunk { left, last } => {
                    if self.input.len() < left {
                        return;
                    }
                    let rest = self.input.split_off(left);
                    self.text.append(&mut self.input);
                    self.input = rest;
                    self.mode = Mode::Commands;
                    if last { self.finish(true) } else { "250 2.0.0 chunk taken".to_string() }
                }
                Mode::Data => {
                    let Some(line) = self.line() else { return };
                    match line.as_slice() {
                        b".\r\n" | b".\n" => {
                            self.mode = Mode::Commands;
                            self.finish(false)
                        }
                        stuffed => {
                            let text = stuffed.strip_prefix(b".").unwrap_or(stuffed);
                            self.text.extend_from_slice(text);
                            continue;
                        }
                    }
                }
                Mode::Commands => {
                    let Some(line) = self.line() else { return };
                    self.command(String::from_utf8_lossy(&line).trim_end())
                }
            };
            if !reply.is_empty() {
                answers.extend_from_slice(reply.as_bytes());
                answers.extend_from_slice(b"\r\n");
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|&byte| byte == b'\n')? + 1;
        let rest = self.input.split_off(end);
        Some(std::mem::replace(&mut self.input, rest))
    }

    fn command(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.reset();
                let chunking = if self.chunking { "250-CHUNKING\r\n" } else { "" };
                let good = format!("250-sink.test\r\n250-PIPELINING\r\n{chunking}250 8BITMIME");
                self.answer(Stage::Hello, &good)
            }
            "HELO" => {
                self.reset();
                self.answer(Stage::Hello, "250 sink.test")
            }
            "MAIL" => {
                let reply = self.answer(Stage::Mail, "250 2.1.0 sender ok");
                if reply.starts_with('2') {
                    self.reset();
                    self.from = Some(path(rest));
                }
                reply
            }
            "RCPT" if self.from.is_some() => {
                let reply = self.answer(Stage::Rcpt, "250 2.1.5 recipient ok");
                if reply.starts_with('2') {
                    self.to.push(path(rest));
                }
                reply
            }
            "DATA" if !self.to.is_empty() => {
                let reply = self.answer(Stage::Data, "354 go ahead");
                if reply.starts_with('3') {
                    self.mode = Mode::Data;
                }
                reply
            }
            "BDAT" if self.chunking => {
                let mut words = rest.split_ascii_whitespace();
                let Some(left) = words.next().and_then(|size| size.parse().ok()) else {
                    return "501 5.5.4 BDAT wants a size".into();
                };
                let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
                self.mode = Mode::Chunk { left, last };
                // The chunk comes without waiting for leave, wanted or not.
                String::new()
            }
            "RCPT" | "DATA" => "503 5.5.1 not now".into(),
            "RSET" => {
                self.reset();
                "250 2.0.0 reset".into()
            }
            "NOOP" => "250 2.0.0 ok".into(),
            "QUIT" => {
                self.mode = Mode::Over;
                "221 2.0.0 bye".into()
            }
            _ => "502 5.5.2 unknown command".into(),
        }
    }

    /// Ends a message and answers it.
    fn finish(&mut self, chunked: bool) -> String {
        if self.to.is_empty() {
            self.reset();
            return "503 5.5.1 no recipient".into();
        }
        let reply = self.answer(Stage::Message, "250 2.0.0 taken");
        if reply.starts_with('2') {
            self.done.push(Message {
                peer: self.peer,
                from: self.from.take().unwrap_or_default(),
                to: std::mem::take(&mut self.to),
                text: String::from_utf8_lossy(&self.text).into_owned(),
                chunked,
            });
        }
        self.reset();
        reply
    }

    fn answer(&self, stage: Stage, good: &str) -> String {
        self.answers.get(&stage).map_or(good, String::as_str).to_string()
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
        self.text.clear();
    }
}

/// `FROM:<a@b> SIZE=3` or `TO:<a@b>`, without what surrounds the address.
fn path(rest: &str) -> String {
    let after = rest.split_once(':').map_or(rest, |(_, address)| address).trim_start();
    match after.strip_prefix('<').and_then(|inner| inner.split_once('>')) {
        Some((address, _)) => address.to_string(),
        None => after.split(' ').next().unwrap_or_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a conversation in pieces of `cut` bytes and returns the codes of the answers and the messages.
    fn talk(text: &str, cut: usize, chunking: bool, answers: &[(Stage, &str)]) -> (String, Vec<Message>) {
        let answers = answers.iter().map(|(stage, reply)| (*stage, reply.to_string())).collect();
        let mut session = Session::new("192.0.2.1:9".parse().unwrap(), chunking, Arc::new(answers));
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(cut) {
            session.feed(piece, &mut out);
        }
        let out = String::from_utf8(out).unwrap();
        let codes: Vec<_> = out.lines().filter(|l| l.as_bytes()[3] == b' ').map(|line| &line[..3]).collect();
        (codes.join(" "), session.take_messages())
    }

    const HEAD: &str = "EHLO a\r\nMAIL FROM:<x@a> SIZE=9\r\nRCPT TO:<y@b>\r\nrcpt to:<z@b>\r\n";

    #[test]
    fn messages_arrive_whole_however_the_bytes_are_cut() {
        let data = format!("{HEAD}DATA\r\nSubject: s\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<y@b>\r\nQUIT\r\n");
        let bdat = format!("{HEAD}BDAT 5\r\nab\r\n.BDAT 4 LAST\r\n\r\nczNOOP\r\n");
        for cut in [1, 2, 7, 1000] {
            let (codes, messages) = talk(&data, cut, false, &[]);
            assert_eq!(codes, "250 250 250 250 354 250 250 250 221");
            assert_eq!((messages[0].from.as_str(), messages[0].to.join(",").as_str()), ("x@a", "y@b,z@b"));
            assert_eq!((messages.len(), messages[0].text.as_str()), (1, "Subject: s\r\n\r\n.dot\r\n"));
            let (codes, messages) = talk(&bdat, cut, true, &[]);
            assert_eq!(codes, "250 250 250 250 250 250 250");
            assert_eq!((messages.len(), messages[0].text.as_str()), (1, "ab\r\n.\r\ncz"));
        }
    }

    #[test]
    fn a_message_answered_badly_is_not_one_received() {
        let text = format!("{HEAD}DATA\r\nhi\r\n.\r\n");
        let (codes, messages) = talk(&text, 50, false, &[(Stage::Message, "451 4.3.0 later")]);
        assert_eq!((codes.as_str(), messages.len()), ("250 250 250 250 354 451", 0));
        let (codes, messages) = talk(&text, 50, false, &[(Stage::Rcpt, "550 5.1.1 no")]);
        assert_eq!((&codes[..19], messages.len()), ("250 250 550 550 503", 0));
    }

    #[test]
    fn a_chunk_without_a_recipient_is_swallowed_and_refused() {
        let (codes, messages) = talk("EHLO a\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", 50, true, &[]);
        assert_eq!((codes.as_str(), messages.len()), ("250 503 250", 0));
    }
}
