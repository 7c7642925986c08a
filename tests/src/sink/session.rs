//! One SMTP or LMTP conversation, as bytes in and [`Step`]s out: enough of RFC 5321, 2033 (LMTP), 2920
//! (PIPELINING), 3030 (CHUNKING), 3207 (STARTTLS), 4954 (AUTH) and of exim's PRDR for real clients.

use super::{Reply, behaviour::Behaviour, body::Body, command};
use crate::tally::Event;
use std::{net::SocketAddr, sync::Arc};

/// Where in a conversation an answer can be replaced, and what the answer may depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    Connect,
    /// EHLO, HELO and LHLO; about the client's name.
    Hello,
    /// About the sender.
    Mail,
    /// About the recipient.
    Rcpt,
    /// The answer to DATA itself, before the message, about the sender. BDAT has none.
    Data,
    /// The answer to a BDAT that is not the last, about the sender.
    Chunk,
    /// The answer to the whole message, about the sender.
    Message,
    /// The answer to the message for one recipient (LMTP, PRDR), about the recipient.
    Recipient,
    /// The end of AUTH, about the mechanism.
    Auth,
    /// RSET, NOOP, STARTTLS and QUIT, about the verb.
    Other,
}

/// A message the sink has said 250 to, inside TLS as well.
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

/// What follows from what was heard, in this order: a note in the book, a message in the log, an answer.
#[derive(Default)]
pub(super) struct Step {
    pub(super) event: Option<Event>,
    pub(super) message: Option<Message>,
    pub(super) reply: Option<Reply>,
    pub(super) starts_tls: bool,
}

enum Mode {
    Commands,
    Data(Body),
    Chunk {
        left: usize,
        last: bool,
    },
    /// AUTH, with so many questions left.
    Auth {
        left: u32,
        mechanism: String,
    },
    /// Whoever feeds us shall begin with TLS.
    StartsTls,
    /// Nothing more is heard.
    Over,
}

#[derive(Default)]
struct Envelope {
    from: String,
    to: Vec<String>,
    prdr: bool,
}

pub(super) struct Session {
    peer: SocketAddr,
    behaviour: Arc<Behaviour>,
    mode: Mode,
    input: Vec<u8>,
    /// The client may use BDAT: our EHLO has offered it.
    chunking: bool,
    lmtp: bool,
    encrypted: bool,
    envelope: Option<Envelope>,
    chunks: Vec<u8>,
    steps: Vec<Step>,
}

impl Session {
    pub(super) fn new(peer: SocketAddr, behaviour: Arc<Behaviour>) -> Self {
        let encrypted = behaviour.implicit_tls;
        let mut session = Self {
            peer,
            behaviour,
            mode: Mode::Commands,
            input: Vec::new(),
            chunking: false,
            lmtp: false,
            encrypted,
            envelope: None,
            chunks: Vec::new(),
            steps: Vec::new(),
        };
        let greeting = session.behaviour.answer(Stage::Connect, "", "220 sink.test ESMTP");
        session.say(None, greeting);
        session
    }

    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// TLS has begun, and with it the conversation anew (RFC 3207); returns what came after STARTTLS.
    pub(super) fn begin_tls(&mut self) -> Vec<u8> {
        (self.mode, self.encrypted, self.chunking) = (Mode::Commands, true, false);
        self.reset();
        std::mem::take(&mut self.input)
    }

    /// Takes in bytes, however they are cut.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.mode, Mode::Over) {
            return;
        }
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some(taken) = self.advance(rest) {
            rest = &rest[taken..];
        }
        self.input = rest.to_vec();
    }

    /// Deals with the next line or piece of text; how many bytes that was, or `None` when it is not there yet.
    fn advance(&mut self, input: &[u8]) -> Option<usize> {
        match &mut self.mode {
            Mode::Over | Mode::StartsTls => None,
            Mode::Chunk { left, last } => {
                let (left, last) = (*left, *last);
                self.chunks.extend_from_slice(input.get(..left)?);
                self.mode = Mode::Commands;
                self.chunk(last);
                Some(left)
            }
            Mode::Data(body) => {
                let (taken, ended) = body.take(input);
                if ended && let Mode::Data(body) = std::mem::replace(&mut self.mode, Mode::Commands) {
                    self.message(body.into_text(), false);
                }
                (taken > 0).then_some(taken)
            }
            Mode::Auth { left, mechanism } => {
                let end = line_end(input)?;
                let (left, mechanism) = (*left, mechanism.clone());
                self.mode = Mode::Commands;
                if trimmed(&input[..end]) == b"*" {
                    self.say(None, "501 5.7.0 as you wish".into());
                } else {
                    self.auth(left, mechanism);
                }
                Some(end)
            }
            Mode::Commands => {
                let end = line_end(input)?;
                self.command(trimmed(&input[..end]));
                Some(end)
            }
        }
    }

    fn command(&mut self, line: &[u8]) {
        let (verb, rest) = command::parse(line);
        match verb.as_str() {
            "EHLO" | "HELO" | "LHLO" => self.hello(&verb, &rest),
            "MAIL" => self.mail(&rest),
            "RCPT" => self.rcpt(&command::path(&rest)),
            "DATA" => self.data(),
            "BDAT" if self.chunking => self.bdat(&rest),
            "AUTH" if self.behaviour.auth => {
                let mut words = rest.split_ascii_whitespace();
                let mechanism = words.next().unwrap_or_default().to_ascii_uppercase();
                let left = match (mechanism.as_str(), words.next()) {
                    ("PLAIN", first) => u32::from(first.is_none()),
                    ("LOGIN", first) => 2 - u32::from(first.is_some()),
                    _ => return self.say(None, "504 5.5.4 unknown mechanism".into()),
                };
                self.auth(left + 1, mechanism);
            }
            "STARTTLS" if self.behaviour.starttls && !self.encrypted => self.starttls(),
            "RSET" => {
                self.reset();
                self.other(Some(Event::Reset), "RSET", "250 2.0.0 reset");
            }
            "NOOP" => self.other(None, "NOOP", "250 2.0.0 ok"),
            "QUIT" => {
                self.reset();
                let reply = self.behaviour.answer(Stage::Other, "QUIT", "221 2.0.0 bye").then_close();
                self.say(Some(Event::Reset), reply);
            }
            _ => self.say(None, "502 5.5.2 unknown command".into()),
        }
    }

    fn hello(&mut self, verb: &str, name: &str) {
        self.reset();
        let lmtp = self.behaviour.lmtp;
        let reply = if (verb == "LHLO") != lmtp {
            Reply::from(if lmtp { "500 5.5.1 this is LMTP" } else { "500 5.5.1 this is SMTP" })
        } else if verb == "HELO" {
            self.behaviour.answer(Stage::Hello, name, "250 sink.test")
        } else {
            let offers = [
                ("PIPELINING", true),
                ("CHUNKING", self.behaviour.chunking),
                ("PRDR", self.behaviour.prdr),
                ("AUTH PLAIN LOGIN", self.behaviour.auth),
                ("STARTTLS", self.behaviour.starttls && !self.encrypted),
                ("8BITMIME", true),
            ];
            let offered = offers.iter().filter(|(_, offered)| *offered).map(|(keyword, _)| *keyword);
            let lines: Vec<_> = std::iter::once("sink.test").chain(offered).collect();
            let good = Reply::lines(250, &lines);
            let good = String::from_utf8_lossy(good.bytes());
            self.behaviour.answer(Stage::Hello, name, &good)
        };
        self.chunking |= reply.offers("CHUNKING");
        self.lmtp = verb == "LHLO" && reply.code() / 100 == 2;
        self.say(Some(Event::Reset), reply);
    }

    fn mail(&mut self, rest: &str) {
        if self.envelope.is_some() {
            return self.say(Some(Event::Mail(503)), "503 5.5.1 one sender at a time".into());
        }
        let from = command::path(rest);
        let reply = self.behaviour.answer(Stage::Mail, &from, "250 2.1.0 sender ok");
        if reply.code() / 100 == 2 {
            let prdr = self.behaviour.prdr && command::has_parameter(rest, "PRDR");
            self.envelope = Some(Envelope { from, to: Vec::new(), prdr });
        }
        self.say(Some(Event::Mail(reply.code())), reply);
    }

    fn rcpt(&mut self, to: &str) {
        let Some(envelope) = &mut self.envelope else {
            return self.say(Some(Event::Rcpt(503)), "503 5.5.1 not now".into());
        };
        let reply = if self.behaviour.is_new(self.peer.ip(), &envelope.from, to) {
            "451 4.7.1 greylisted".into()
        } else {
            self.behaviour.answer(Stage::Rcpt, to, "250 2.1.5 recipient ok")
        };
        if reply.code() / 100 == 2 {
            envelope.to.push(to.to_string());
        }
        self.say(Some(Event::Rcpt(reply.code())), reply);
    }

    fn data(&mut self) {
        let reply = match &self.envelope {
            Some(envelope) if !envelope.to.is_empty() && self.chunks.is_empty() => {
                self.behaviour.answer(Stage::Data, &envelope.from, "354 go ahead")
            }
            _ => "503 5.5.1 not now".into(),
        };
        if reply.code() == 354 {
            self.mode = Mode::Data(Body::new(self.behaviour.bare_lf));
        } else {
            self.reset();
        }
        self.say(Some(Event::Data(reply.code())), reply);
    }

    fn bdat(&mut self, rest: &str) {
        let mut words = rest.split_ascii_whitespace();
        let size = words.next().and_then(|size| size.parse().ok());
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let Some(left) = size else {
            self.reset();
            return self.say(Some(Event::Chunk(501)), "501 5.5.4 BDAT wants a size".into());
        };
        if last {
            self.steps.push(Step { event: Some(Event::LastChunk), ..Step::default() });
        }
        // The chunk comes without waiting for leave, wanted or not.
        self.mode = Mode::Chunk { left, last };
    }

    /// A chunk is complete.
    fn chunk(&mut self, last: bool) {
        match &self.envelope {
            Some(envelope) if !envelope.to.is_empty() => {
                if last {
                    let text = std::mem::take(&mut self.chunks);
                    return self.message(text, true);
                }
                let reply = self.behaviour.answer(Stage::Chunk, &envelope.from, "250 2.0.0 chunk taken");
                if reply.code() / 100 != 2 {
                    self.reset();
                }
                self.say(Some(Event::Chunk(reply.code())), reply);
            }
            _ => {
                self.reset();
                let event = if last { Event::Message(503) } else { Event::Chunk(503) };
                self.say(Some(event), "503 5.5.1 no recipient".into());
            }
        }
    }

    /// A message is complete: answers it, for each recipient where that was agreed.
    fn message(&mut self, text: Vec<u8>, chunked: bool) {
        let Some(envelope) = self.envelope.take() else { return };
        self.reset();
        let about = |to: &String| self.behaviour.answer(Stage::Recipient, to, "250 2.0.0 taken for him");
        let mut each: Vec<_> =
            if self.lmtp || envelope.prdr { envelope.to.iter().map(about).collect() } else { Vec::new() };
        let good = |reply: &Reply| reply.code() / 100 == 2;
        let taken_by: Vec<_> = match each.len() {
            0 => envelope.to.clone(),
            _ => envelope.to.iter().zip(&each).filter(|(_, reply)| good(reply)).map(|(to, _)| to.clone()).collect(),
        };
        let (event, last) = if self.lmtp {
            let codes = each.iter().map(Reply::code).collect();
            (Event::MessageForEach(codes), each.pop().expect("a message has a recipient"))
        } else {
            let last = self.behaviour.answer(Stage::Message, &envelope.from, "250 2.0.0 taken");
            (Event::Message(last.code()), last)
        };
        if envelope.prdr && !self.lmtp {
            self.say(None, "353 each of them in turn".into());
        }
        each.into_iter().for_each(|reply| self.say(None, reply));
        let good = if self.lmtp { !taken_by.is_empty() } else { good(&last) };
        let message = good.then(|| Message {
            peer: self.peer,
            from: envelope.from,
            to: taken_by,
            text: String::from_utf8_lossy(&text).into_owned(),
            chunked,
        });
        self.step(Step { event: Some(event), message, reply: Some(last), starts_tls: false });
    }

    fn starttls(&mut self) {
        if self.envelope.is_some() {
            return self.say(None, "503 5.5.1 not inside a transaction".into());
        }
        let reply = self.behaviour.answer(Stage::Other, "STARTTLS", "220 2.0.0 go ahead");
        if reply.code() == 220 {
            self.mode = Mode::StartsTls;
            return self.step(Step {
                event: Some(Event::Encrypted),
                message: None,
                reply: Some(reply),
                starts_tls: true,
            });
        }
        self.say(None, reply);
    }

    /// One step of AUTH, `left` of them being to come.
    fn auth(&mut self, left: u32, mechanism: String) {
        let reply = match (left, mechanism.as_str()) {
            (1, _) => self.behaviour.answer(Stage::Auth, &mechanism, "235 2.7.0 welcome"),
            (_, "PLAIN") => "334 ".into(),
            (3, _) => "334 VXNlcm5hbWU6".into(),
            (_, _) => "334 UGFzc3dvcmQ6".into(),
        };
        if reply.code() == 334 {
            self.mode = Mode::Auth { left: (left - 1).max(1), mechanism };
        }
        self.say(None, reply);
    }

    fn other(&mut self, event: Option<Event>, verb: &str, good: &str) {
        let reply = self.behaviour.answer(Stage::Other, verb, good);
        self.say(event, reply);
    }

    fn say(&mut self, event: Option<Event>, reply: Reply) {
        self.step(Step { event, reply: Some(reply), ..Step::default() });
    }

    fn step(&mut self, mut step: Step) {
        if matches!(self.mode, Mode::Over) {
            return;
        }
        if let Some(reply) = &step.reply
            && (reply.is_never() || reply.closes)
        {
            self.mode = Mode::Over;
            if reply.is_never() {
                // Nothing was decided that anybody will ever hear of.
                step = Step::default();
            }
        }
        self.steps.push(step);
    }

    fn reset(&mut self) {
        self.envelope = None;
        self.chunks.clear();
    }
}

fn line_end(input: &[u8]) -> Option<usize> {
    input.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
}

/// Without the line end, of which a CR just before the LF is a part.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
