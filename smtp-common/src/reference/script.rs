//! A conversation before it is bytes: what is said, what it amounts to, and where it may be cut.

pub(super) mod generator;

use super::*;
use std::vec;

/// What the client writes around a verb.
#[derive(Clone, Debug)]
struct Words {
    blanks: &'static str,
    upper: u8,
    argument: &'static str,
    end: &'static str,
}

impl Words {
    fn line(&self, verb: &str) -> Vec<u8> {
        let case = |(i, c): (usize, char)| {
            if self.upper >> (i % 8) & 1 == 1 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        };
        let verb: String = verb.chars().enumerate().map(case).collect();
        format!("{}{verb}{}{}", self.blanks, self.argument, self.end).into_bytes()
    }
}

#[derive(Clone, Debug)]
struct Reply {
    code: u16,
    /// Lines before the last, `%` for the code.
    before: Vec<&'static str>,
    text: &'static str,
    end: &'static str,
}

impl Reply {
    fn bytes(&self) -> Vec<u8> {
        let code = format!("{:03}", self.code);
        let before: String = self.before.iter().map(|line| line.replace('%', &code) + self.end).collect();
        format!("{before}{code}{}{}", self.text, self.end).into_bytes()
    }

    fn class(&self) -> u16 {
        self.code / 100
    }
}

#[derive(Clone, Debug)]
struct Step(Act, Words, Reply);

#[derive(Clone, Debug)]
enum Act {
    /// EHLO or not (an LMTP client always says LHLO), CHUNKING or not, other lines of the reply.
    Hello(bool, bool, Vec<&'static str>),
    Mail,
    Rcpt,
    Data(Vec<u8>, Ending),
    /// Chunks with their replies, and whether the last of them says so.
    Bdat(Vec<(Vec<u8>, Reply)>, bool, Ending),
    /// A line that means nothing to the count.
    Aside(&'static str),
    /// The client's answers, and the challenges before them.
    Auth(Vec<(&'static str, Reply)>),
    /// What follows a 220 in both directions.
    StartTls(Vec<u8>),
    Reset,
    Quit,
    /// The connection ends in the body, or (if so) after BDAT LAST.
    Hang(Vec<u8>, bool),
}

/// The replies after a body, as many as it takes, and whether a 353 announces them.
#[derive(Clone, Debug)]
struct Ending {
    prdr: bool,
    outcomes: Vec<Reply>,
}

/// A command (or a body) with its replies: they may begin once `needs` bytes of it have passed.
struct Exchange {
    client: Vec<u8>,
    needs: usize,
    server: Vec<u8>,
    /// The client says nothing more before the replies are complete.
    sync: bool,
}

/// Plays the steps and keeps count. Steps that make no sense where they stand are left out, and so are
/// those whose meaning the definition leaves open.
#[derive(Default)]
struct Script {
    lmtp: bool,
    /// `None` where it is open whether an earlier EHLO still holds.
    chunking: Option<bool>,
    open: Option<[u64; 3]>,
    /// A MAIL line has left, and nothing since that would make a BDAT something else than the first.
    attempt: bool,
    /// The open transaction has chunks already.
    chunked: bool,
    over: bool,
    tally: Tally,
    exchanges: Vec<Exchange>,
}

impl Script {
    fn exchange(&mut self, client: Vec<u8>, replies: &[&Reply], sync: bool) {
        self.tally.replies += replies.len() as u64;
        let server = replies.iter().flat_map(|reply| reply.bytes()).collect();
        self.exchanges.push(Exchange { needs: client.len(), client, server, sync });
    }

    fn close(&mut self, class: u16) {
        let Some([accepted, deferred, rejected]) = self.open.take() else { return };
        let nobody = accepted == 0 && deferred + rejected > 0;
        let outcome = match class {
            2 => ACCEPTED,
            _ if nobody && deferred > 0 => DEFERRED,
            _ if nobody => REJECTED,
            4 => DEFERRED,
            _ => REJECTED,
        };
        self.tally.messages[outcome] += 1;
    }

    fn give_up(&mut self) {
        self.attempt = false;
        match self.open {
            Some([0, deferred, rejected]) if deferred + rejected > 0 => self.close(5),
            _ => self.open = None,
        }
    }

    /// The end of a body, with every reply it gets.
    fn deliver(&mut self, client: Vec<u8>, Ending { prdr, outcomes }: &Ending) {
        let accepted = self.open.map_or(0, |recipients| recipients[ACCEPTED]) as usize;
        let intro = Reply { code: 353, before: vec!["%-250 x"], text: " each", end: "\r\n" };
        let several: Vec<&Reply> = outcomes.iter().cycle().take(accepted).collect();
        let last = &outcomes[accepted % outcomes.len()];
        if self.lmtp && accepted > 0 {
            let classes: Vec<u16> = several.iter().map(|reply| reply.class()).collect();
            self.close([2, 4].into_iter().find(|class| classes.contains(class)).unwrap_or(5));
            self.exchange(client, &several, false);
        } else if *prdr && accepted > 0 {
            self.close(last.class());
            self.exchange(client, &[vec![&intro], several, vec![last]].concat(), false);
        } else {
            self.close(last.class());
            self.exchange(client, &[last], false);
        }
    }

    fn play(&mut self, Step(act, words, mut reply): Step) {
        match act {
            _ if self.over => {}
            Act::Hello(extended, chunking, keywords) => {
                self.give_up();
                let ok = reply.class() == 2;
                let verb = [["HELO", "EHLO"][usize::from(extended)], "LHLO"][usize::from(self.lmtp)];
                if ok && verb != "HELO" {
                    reply.before = ["%-mx.example CHUNKING"].into_iter().chain(keywords).collect();
                    reply.text = " SIZE 0";
                    match reply.before.len() {
                        _ if !chunking => {}
                        1 | 3 => reply.text = " CHUNKING",
                        lines => reply.before.insert(lines / 2 + 1, "%-Chunking"),
                    }
                    self.chunking = Some(chunking);
                } else {
                    // A refusal that names the extension: left out.
                    reply.before.retain(|_| ok);
                    self.chunking = self.chunking.filter(|&known| !known);
                }
                self.exchange(words.line(verb), &[&reply], true);
            }
            Act::Mail => {
                let class = reply.class();
                if class == 2 {
                    self.give_up();
                    self.open = Some([0; 3]);
                    self.chunked = false;
                    self.attempt = true;
                } else if self.open.is_none() {
                    self.tally.messages[if class == 4 { DEFERRED } else { REJECTED }] += 1;
                    self.attempt = true;
                }
                self.exchange(words.line("MAIL"), &[&reply], false);
            }
            Act::Rcpt => {
                let outcome = match reply.class() {
                    2 => ACCEPTED,
                    4 => DEFERRED,
                    _ => REJECTED,
                };
                self.tally.rcpt_commands += 1;
                self.tally.recipients[outcome] += 1;
                if let Some(recipients) = &mut self.open {
                    recipients[outcome] += 1;
                }
                self.exchange(words.line("RCPT"), &[&reply], false);
            }
            Act::Data(body, ending) => {
                self.attempt = false;
                let nobody = self.lmtp && self.open.is_some_and(|recipients| recipients[ACCEPTED] == 0);
                if reply.code == 354 && (self.open.is_none() || self.chunked || nobody) {
                    reply.code = 503;
                }
                self.exchange(words.line("DATA"), &[&reply], true);
                if reply.code == 354 {
                    self.tally.go_aheads += 1;
                    self.deliver(terminated(&body), &ending);
                } else {
                    self.close(reply.class());
                }
            }
            Act::Bdat(chunks, last, ending) if self.chunking == Some(true) && self.attempt => {
                self.chunks(&words, chunks, last, &ending);
            }
            Act::Bdat(..) => {}
            Act::Aside("BDAT") => {
                if self.chunking == Some(false) {
                    self.exchange(words.bdat(12, reply.code % 2 == 0), &[&reply], false);
                }
            }
            Act::Aside(line) => self.exchange([line, words.end].concat().into_bytes(), &[&reply], false),
            Act::Auth(answers) => {
                let mut client = words.line("AUTH");
                for (answer, challenge) in answers {
                    self.exchange(client, &[&challenge], true);
                    client = [answer, words.end].concat().into_bytes();
                }
                self.exchange(client, &[&reply], true);
            }
            Act::StartTls(noise) => {
                if reply.code == 220 && self.open.is_some() {
                    reply.code = 503;
                }
                self.exchange(words.line("STARTTLS"), &[&reply], true);
                if reply.code == 220 {
                    self.tally.encrypted = true;
                    self.over = true;
                    // ClientHello, whatever is in it, and what a server says to it; then what neither side can read.
                    let hello = b"\x16\x03\x01\x00\x04\x01\0\0\0".to_vec();
                    let answer = [b"\x16\x03\x03\x00\x04\x02\0\0\0", &noise[..]].concat();
                    self.exchanges.push(Exchange { needs: hello.len(), client: hello, server: answer, sync: true });
                    self.exchanges.push(Exchange { client: noise.clone(), needs: 0, server: noise, sync: false });
                }
            }
            Act::Reset => {
                self.give_up();
                self.exchange(words.line("RSET"), &[&reply], false);
            }
            Act::Quit => {
                self.give_up();
                self.over = true;
                self.exchange(words.line("QUIT"), &[&reply], false);
            }
            Act::Hang(body, bdat) => {
                let Some([accepted, deferred, rejected]) = self.open else { return };
                // Nobody accepted and no outcome: the definition names two results.
                if accepted == 0 && (self.lmtp || deferred + rejected > 0) {
                    return;
                }
                if bdat && self.chunking == Some(true) && self.attempt {
                    self.tally.bdat_starts += 1;
                    self.exchange([words.bdat(body.len(), true), body].concat(), &[], false);
                } else if !bdat && !self.chunked {
                    self.tally.go_aheads += 1;
                    self.exchange(words.line("DATA"), &[&reply], true);
                    self.exchange(stuffed(&body), &[], false);
                } else {
                    return;
                }
                self.tally.messages[UNKNOWN] += 1;
                self.open = None;
                self.over = true;
            }
        }
    }

    fn chunks(&mut self, words: &Words, chunks: Vec<(Vec<u8>, Reply)>, last: bool, ending: &Ending) {
        self.attempt = false;
        self.chunked = true;
        self.tally.bdat_starts += 1;
        let count = chunks.len();
        for (i, (octets, mut reply)) in chunks.into_iter().enumerate() {
            let last = last && i + 1 == count;
            let line = words.bdat(octets.len(), last);
            let needs = line.len();
            let client = [line, octets].concat();
            if last && self.open.is_some() {
                self.deliver(client, ending);
                continue;
            }
            if self.open.is_none() {
                reply.code = 503;
            }
            self.exchange(client, &[&reply], false);
            if reply.class() != 2 {
                // A server may refuse before it has read the octets.
                self.exchanges.last_mut().unwrap().needs = needs;
                self.close(reply.class());
                if self.lmtp {
                    // How many replies BDAT LAST would get now is left open.
                    break;
                }
            }
        }
    }

    /// The bytes of both sides, cut as `cuts` says (side and length, over and over).
    fn segments(&self, cuts: &[(bool, usize)]) -> Transcript {
        let (mut client, mut server) = (Vec::new(), Vec::new());
        // Replies that start at .1 wait until .0 bytes of the client have passed; bytes of the client from .0
        // on wait until .1 bytes of the server have.
        let (mut answers, mut syncs) = (Vec::new(), Vec::new());
        for exchange in &self.exchanges {
            answers.push((client.len() + exchange.needs, server.len()));
            client.extend(&exchange.client);
            server.extend(&exchange.server);
            if exchange.sync {
                syncs.push((client.len(), server.len()));
            }
        }
        let (mut c, mut s) = (0, 0);
        let mut transcript = Transcript::new();
        for &(prefer_client, length) in cuts.iter().cycle() {
            let c_free = syncs.iter().find(|sync| sync.1 > s).map_or(client.len(), |sync| sync.0);
            let s_free = answers.iter().find(|answer| answer.0 > c).map_or(server.len(), |answer| answer.1);
            if c < c_free && (prefer_client || s >= s_free) {
                let to = c_free.min(c.saturating_add(length));
                transcript.push((Side::Client, client[c..to].to_vec()));
                c = to;
            } else if s < s_free {
                let to = s_free.min(s.saturating_add(length));
                transcript.push((Side::Server, server[s..to].to_vec()));
                s = to;
            } else {
                break;
            }
        }
        assert_eq!((c, s), (client.len(), server.len()), "no side may move, and there are bytes left");
        transcript
    }
}

impl Words {
    fn bdat(&self, octets: usize, last: bool) -> Vec<u8> {
        let gap = if self.upper.is_multiple_of(3) { "\t " } else { " " };
        let last = if last { [gap, "LAST"].concat() } else { String::new() };
        Words { argument: "", ..self.clone() }.line(&format!("BDAT{gap}{octets}{last}"))
    }
}

/// `content` so that no line of it is a lone dot. Lines that begin with one are left alone: a trap.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut whole = [b"\r\n", content, b"\r\n"].concat();
    while let Some(at) = find(&whole, b"\r\n.\r\n") {
        whole.insert(at + 2, b'.');
    }
    whole[2..whole.len() - 2].to_vec()
}

fn terminated(content: &[u8]) -> Vec<u8> {
    let mut body = stuffed(content);
    if !body.is_empty() && !body.ends_with(b"\r\n") {
        body.extend(b"\r\n");
    }
    body.extend(b".\r\n");
    body
}
