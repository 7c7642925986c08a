//! A second reading of an SMTP conversation, for tests only: slow, in plain sight, with everything in memory.
//!
//! The automaton of the probe reads byte by byte and may keep almost nothing. This parser keeps it all: lines
//! are joined before they are read, and every command waits in a queue for its reply. The generator in `script`
//! knows what a conversation amounts to before there are bytes, and so is a witness against both.

mod script;

pub(crate) use script::generator::{conversation, cut_off, noise};
use std::{collections::VecDeque, format, string::String, vec::Vec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What passed the wire, in order, cut anywhere.
pub(crate) type Transcript = Vec<(Side, Vec<u8>)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Accepted, deferred, rejected, unknown.
    pub(crate) messages: [u64; 4],
    /// Accepted, deferred, rejected.
    pub(crate) recipients: [u64; 3],
    /// 354 replies to DATA.
    pub(crate) go_aheads: u64,
    /// BDAT lines that were the first since a MAIL line.
    pub(crate) bdat_starts: u64,
    pub(crate) rcpt_commands: u64,
    pub(crate) encrypted: bool,
    /// Whole replies, the greeting included.
    pub(crate) replies: u64,
}

const ACCEPTED: usize = 0;
const DEFERRED: usize = 1;
const REJECTED: usize = 2;
const UNKNOWN: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    Ehlo,
    Helo,
    Lhlo,
}

/// What the next replies of the server will answer.
#[derive(Clone, Debug)]
enum Awaited {
    Hello(Hello),
    Mail,
    Rcpt,
    Data,
    /// The body that followed a 354.
    Body,
    Chunk,
    /// BDAT LAST.
    LastChunk,
    /// LMTP, after the body: how many replies are to come in all, and the classes of those that came.
    EachRecipient(usize, String),
    /// PRDR, after the 353: how many recipients have no reply yet; the outcome comes after them.
    Prdr(usize),
    /// AUTH, or the client's answer to a challenge.
    Auth,
    StartTls,
    /// RSET and QUIT: the transaction is over.
    Close,
    Other,
}

/// How the client's next bytes are to be read.
#[derive(Clone, Copy, Default)]
enum Mode {
    #[default]
    Commands,
    /// Nothing can be read before the server has replied.
    Waiting,
    AuthAnswer,
    Body,
    Octets(u64),
}

#[derive(Default)]
struct Parser {
    tally: Tally,
    /// Bytes not yet read, of either side.
    client: Vec<u8>,
    server: Vec<u8>,
    mode: Mode,
    awaited: VecDeque<Awaited>,
    greeted: bool,
    /// Texts of the lines of the reply that is being read.
    reply: Vec<String>,
    chunking: bool,
    lmtp: bool,
    /// A MAIL line has left and no BDAT line since: the next BDAT starts a message.
    bdat_starts: bool,
    /// Recipients of the open transaction: accepted, deferred, rejected.
    transaction: Option<[u64; 3]>,
}

/// Counts what `transcript` says. The connection ends where the transcript does.
pub(crate) fn parse(transcript: &Transcript) -> Tally {
    let mut parser = Parser::default();
    for (side, bytes) in transcript {
        match side {
            Side::Client => parser.client.extend(bytes),
            Side::Server => parser.server.extend(bytes),
        }
        parser.read_client();
        while !parser.tally.encrypted
            && let Some(line) = take_line(&mut parser.server)
        {
            parser.reply_line(&line);
            parser.read_client();
        }
    }
    parser.end()
}

/// The first line of `bytes` without its end, once it is there.
fn take_line(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let line: Vec<u8> = bytes.drain(..=end).take(end).collect();
    Some(line.strip_suffix(b"\r").unwrap_or(&line).to_vec())
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

impl Parser {
    fn read_client(&mut self) {
        while !self.tally.encrypted {
            match self.mode {
                Mode::Waiting => return,
                Mode::Commands => match take_line(&mut self.client) {
                    Some(line) => self.command(&String::from_utf8_lossy(&line)),
                    None => return,
                },
                Mode::AuthAnswer => match take_line(&mut self.client) {
                    Some(_) => self.sent(Awaited::Auth, Mode::Waiting),
                    None => return,
                },
                // The body begins at the start of a line: as if a CRLF stood before it.
                Mode::Body => match find(&[b"\r\n", &self.client[..]].concat(), b"\r\n.\r\n") {
                    Some(at) => {
                        self.client.drain(..at + 3);
                        self.mode = Mode::Commands;
                    }
                    None => return,
                },
                Mode::Octets(0) => self.mode = Mode::Commands,
                Mode::Octets(_) if self.client.is_empty() => return,
                Mode::Octets(left) => {
                    let here = left.min(self.client.len() as u64);
                    self.client.drain(..here as usize);
                    self.mode = Mode::Octets(left - here);
                }
            }
        }
    }

    fn sent(&mut self, awaited: Awaited, mode: Mode) {
        self.awaited.push_back(awaited);
        self.mode = mode;
    }

    fn command(&mut self, line: &str) {
        let line = line.trim_start_matches([' ', '\t']);
        let verb: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.sent(Awaited::Hello(Hello::Ehlo), Mode::Commands),
            "LHLO" => self.sent(Awaited::Hello(Hello::Lhlo), Mode::Commands),
            "HELO" => self.sent(Awaited::Hello(Hello::Helo), Mode::Commands),
            "MAIL" => {
                self.bdat_starts = true;
                self.sent(Awaited::Mail, Mode::Commands);
            }
            "RCPT" => {
                self.tally.rcpt_commands += 1;
                self.sent(Awaited::Rcpt, Mode::Commands);
            }
            "DATA" => {
                self.bdat_starts = false;
                self.sent(Awaited::Data, Mode::Waiting);
            }
            "BDAT" if self.chunking => match chunk(line) {
                Some((octets, last)) => {
                    self.tally.bdat_starts += u64::from(std::mem::take(&mut self.bdat_starts));
                    let awaited = if last { Awaited::LastChunk } else { Awaited::Chunk };
                    self.sent(awaited, Mode::Octets(octets));
                }
                None => self.sent(Awaited::Other, Mode::Commands),
            },
            "AUTH" => self.sent(Awaited::Auth, Mode::Waiting),
            "STARTTLS" => self.sent(Awaited::StartTls, Mode::Waiting),
            "RSET" | "QUIT" => {
                self.bdat_starts = false;
                self.sent(Awaited::Close, Mode::Commands);
            }
            _ => self.sent(Awaited::Other, Mode::Commands),
        }
    }

    fn reply_line(&mut self, line: &[u8]) {
        let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = line else { return };
        let code: String = [a, b, c].map(|&digit| char::from(digit)).iter().collect();
        let more = match rest {
            [] | [b' ', ..] => false,
            [b'-', ..] => true,
            _ => return,
        };
        self.reply.push(String::from_utf8_lossy(rest.get(1..).unwrap_or_default()).into_owned());
        if !more {
            self.tally.replies += 1;
            if std::mem::replace(&mut self.greeted, true)
                && let Some(awaited) = self.awaited.pop_front()
            {
                self.answered(awaited, &code);
            }
            self.reply.clear();
        }
    }

    fn answered(&mut self, awaited: Awaited, code: &str) {
        let class = &code[..1];
        match awaited {
            Awaited::Hello(hello) => {
                self.abandon();
                if class == "2" {
                    self.lmtp = hello == Hello::Lhlo;
                    self.chunking = hello != Hello::Helo && self.reply.iter().any(|text| is_chunking(text));
                }
            }
            Awaited::Mail => match (class, self.transaction) {
                ("2", _) => {
                    self.abandon();
                    self.transaction = Some([0; 3]);
                }
                ("4", None) => self.tally.messages[DEFERRED] += 1,
                ("5", None) => self.tally.messages[REJECTED] += 1,
                _ => {}
            },
            Awaited::Rcpt => {
                let outcome = match class {
                    "2" => ACCEPTED,
                    "4" => DEFERRED,
                    _ => REJECTED,
                };
                self.tally.recipients[outcome] += 1;
                if let Some(recipients) = &mut self.transaction {
                    recipients[outcome] += 1;
                }
            }
            Awaited::Data => {
                self.mode = Mode::Commands;
                if code == "354" {
                    self.tally.go_aheads += 1;
                    self.mode = Mode::Body;
                    self.awaited.push_front(Awaited::Body);
                } else if class == "4" || class == "5" {
                    self.finish(class);
                }
            }
            Awaited::Body | Awaited::LastChunk => {
                let recipients = self.transaction.map_or(0, |r| r[ACCEPTED]) as usize;
                if self.lmtp && recipients > 0 {
                    self.recipient_answered(recipients, String::new(), class);
                } else if code == "353" && !self.lmtp {
                    self.awaited.push_front(Awaited::Prdr(recipients));
                } else {
                    self.finish(class);
                }
            }
            Awaited::Chunk if class == "4" || class == "5" => self.finish(class),
            Awaited::EachRecipient(replies, classes) => self.recipient_answered(replies, classes, class),
            Awaited::Prdr(0) => self.finish(class),
            Awaited::Prdr(recipients) => self.awaited.push_front(Awaited::Prdr(recipients - 1)),
            Awaited::Auth => self.mode = if code == "334" { Mode::AuthAnswer } else { Mode::Commands },
            Awaited::StartTls => {
                self.mode = Mode::Commands;
                self.tally.encrypted = code == "220";
            }
            Awaited::Close => self.abandon(),
            Awaited::Chunk | Awaited::Other => {}
        }
    }

    /// LMTP: one of `replies` replies after the body.
    fn recipient_answered(&mut self, replies: usize, mut classes: String, class: &str) {
        classes.push_str(class);
        if classes.len() < replies {
            self.awaited.push_front(Awaited::EachRecipient(replies, classes));
        } else {
            self.finish(["2", "4"].into_iter().find(|class| classes.contains(class)).unwrap_or("5"));
        }
    }

    /// The open transaction, if there is one, ends with a reply of this class.
    fn finish(&mut self, class: &str) {
        let Some(recipients) = self.transaction.take() else { return };
        let outcome = match (class, recipients) {
            ("2", _) => ACCEPTED,
            (_, [0, deferred, _]) if deferred > 0 => DEFERRED,
            (_, [0, _, rejected]) if rejected > 0 => REJECTED,
            ("4", _) => DEFERRED,
            _ => REJECTED,
        };
        self.tally.messages[outcome] += 1;
    }

    /// The open transaction, if there is one, ends without a body.
    fn abandon(&mut self) {
        match self.transaction {
            Some([0, deferred, rejected]) if deferred + rejected > 0 => self.finish("5"),
            _ => self.transaction = None,
        }
    }

    fn end(mut self) -> Tally {
        // Commands that follow one of these belong to another transaction.
        let ours = |a: &&Awaited| !matches!(a, Awaited::Mail | Awaited::Hello(_) | Awaited::Close);
        let owes_outcome = self.awaited.iter().take_while(ours).any(|awaited| {
            use Awaited::{Body, EachRecipient, LastChunk, Prdr};
            matches!(awaited, Body | LastChunk | EachRecipient(..) | Prdr(_))
        });
        // Of LMTP's replies one is enough: that recipient has it.
        if let Some(Awaited::EachRecipient(_, classes)) = self.awaited.front()
            && classes.contains('2')
        {
            self.finish("2");
        }
        if self.tally.encrypted {
            // What was open before STARTTLS is out of sight.
        } else if owes_outcome && self.transaction.is_some() {
            self.tally.messages[UNKNOWN] += 1;
        } else {
            self.abandon();
        }
        self.tally
    }
}

/// `BDAT octets [LAST]`.
fn chunk(line: &str) -> Option<(u64, bool)> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty()).skip(1);
    let octets = words.next()?;
    let octets = octets.bytes().all(|b| b.is_ascii_digit()).then(|| octets.parse().ok())??;
    Some((octets, words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"))))
}

/// Whether this line of a reply to EHLO names the extension; it may have parameters.
fn is_chunking(text: &str) -> bool {
    text.split([' ', '\t']).next().is_some_and(|keyword| keyword.eq_ignore_ascii_case("CHUNKING"))
}

/// One conversation as lines that begin with `C` or `S`; their ends are added.
fn talk(lines: &str) -> Transcript {
    let segment = |line: &str| {
        let side = if line.starts_with('C') { Side::Client } else { Side::Server };
        (side, format!("{}\r\n", line[1..].trim_start()).into_bytes())
    };
    lines.split('|').map(|line| segment(line.trim())).collect()
}

#[test]
fn the_parser_finds_the_outcome_the_definition_names() {
    const ACCEPT: &str = "C MAIL|S 250|C RCPT|S 250";
    const REFUSE: &str = "C MAIL|S 250|C RCPT|S 450|C RCPT|S 550";
    const BODY: &str = "C DATA|S 354|C .";
    const BDAT: &str = "C EHLO x|S 250-mx|S 250 CHUNKING";
    for (lines, messages) in [
        (format!("{ACCEPT}|{BODY}|S 250"), [1, 0, 0, 0]),
        (format!("{ACCEPT}|{BODY}|S 450"), [0, 1, 0, 0]),
        (format!("{ACCEPT}|{BODY}|S 550"), [0, 0, 1, 0]),
        (format!("{ACCEPT}|{BODY}"), [0, 0, 0, 1]),
        (format!("{ACCEPT}|C DATA|S 554"), [0, 0, 1, 0]),
        (format!("{ACCEPT}|C RSET|S 250"), [0; 4]),
        (format!("{REFUSE}|C RSET|S 250"), [0, 1, 0, 0]),
        (format!("{REFUSE}|C DATA|S 503"), [0, 1, 0, 0]),
        (format!("{REFUSE}|C MAIL|S 503|C MAIL|S 250"), [0, 1, 0, 0]),
        (String::from("C MAIL|S 250|C RCPT|S 550"), [0, 0, 1, 0]),
        (String::from("C MAIL|S 250|C QUIT|S 221"), [0; 4]),
        (String::from("C MAIL|S 450|C MAIL|S 550"), [0, 1, 1, 0]),
        (format!("C LHLO x|S 250|{ACCEPT}|C RCPT|S 250|{BODY}|S 550|S 250"), [1, 0, 0, 0]),
        (format!("C LHLO x|S 250|{ACCEPT}|C RCPT|S 250|{BODY}|S 550|S 450"), [0, 1, 0, 0]),
        (format!("{ACCEPT}|C RCPT|S 250|{BODY}|S 353|S 250|S 550|S 550"), [0, 0, 1, 0]),
        (format!("{BDAT}|{ACCEPT}|C BDAT 2|C|S 250|C BDAT 0 LAST|S 250"), [1, 0, 0, 0]),
        (format!("{BDAT}|{ACCEPT}|C BDAT 2|C|C BDAT 0 LAST|S 552|S 503"), [0, 0, 1, 0]),
        (format!("{BDAT}|{ACCEPT}|C BDAT 2|C|S 250|C BDAT 0 LAST"), [0, 0, 0, 1]),
        // No transaction, no message: nobody said MAIL.
        (String::from(BODY), [0; 4]),
        // What the last chunk belongs to never opened: no reply to its MAIL.
        (format!("{BDAT}|C MAIL|C RCPT|C BDAT 0 LAST"), [0; 4]),
        (format!("{BDAT}|{REFUSE}|C RSET|C MAIL|C RCPT|C BDAT 0 LAST"), [0, 1, 0, 0]),
    ] {
        assert_eq!(parse(&talk(&format!("S 220 mx|{lines}"))).messages, messages, "{lines}");
    }
}
