//! What a hostile client plays: scenes that leave no transaction open, and an end, which may (`ends.rs`).

use super::{
    bodies, ends,
    script::{Script, To},
    speaker::Speaker,
};
use crate::tally::Outcome;
use fastrand::Rng;

/// A scene's name, and what is done in it.
pub(super) type Scene = (&'static str, fn(&mut Speaker));

/// The recipients of one transaction: how many were answered how, and how each that was accepted will answer the
/// message itself.
#[derive(Default)]
pub(super) struct Recipients {
    deferred: u32,
    rejected: u32,
    each: Vec<u16>,
}

impl Recipients {
    /// What a failure of the transaction is called.
    fn failure(&self, code: u16) -> Outcome {
        if !self.each.is_empty() || self.deferred + self.rejected == 0 {
            return if (400..500).contains(&code) { Outcome::Deferred } else { Outcome::Rejected };
        }
        if self.deferred > 0 { Outcome::Deferred } else { Outcome::Rejected }
    }

    /// What it comes to when nothing is sent.
    pub(super) fn given_up(&self) -> Option<Outcome> {
        (self.each.is_empty() && self.deferred + self.rejected > 0).then(|| self.failure(0))
    }
}

pub(super) fn session(rng: &mut Rng, lmtp: bool) -> Script {
    let mut s = Speaker::new(rng, lmtp);
    s.scene("hello");
    s.chunking = lmtp || !s.one_in(8);
    if lmtp && s.one_in(3) {
        s.command("EHLO", "lost.test", To::Reset, 500);
    }
    hello(&mut s);
    for _ in 0..s.rng.u32(1..8) {
        let scenes: [Scene; 10] = [
            ("data", data),
            ("data", data),
            ("bdat", bdat),
            ("bdat", bdat),
            ("given up", given_up),
            ("senders", senders),
            ("out of order", out_of_order),
            ("auth", auth),
            ("junk", junk),
            ("many recipients", many),
        ];
        let (name, play) = s.choose(&scenes);
        s.scene(name);
        play(&mut s);
        s.flush();
    }
    ends::play(&mut s);
    s.flush();
    s.script
}

fn hello(s: &mut Speaker) {
    let verb = if s.lmtp {
        "LHLO"
    } else if s.chunking {
        "EHLO"
    } else {
        "HELO"
    };
    s.command_alone(verb, "hostile.test", To::Reset, 250);
}

pub(super) fn mail(s: &mut Speaker, tag: &str, code: u16) {
    s.command("MAIL", &format!("FROM:<x{tag}@far.test>"), To::Mail, code);
}

/// Recipients of all kinds, of which the first has this code.
fn recipients(s: &mut Speaker, count: usize, first: u16) -> Recipients {
    let mut all = Recipients::default();
    for n in 0..count {
        let code = if n == 0 { first } else { s.choose(&[250, 250, 250, 251, 450, 452, 550, 553]) };
        let each = s.choose(&[250, 250, 452, 550]);
        s.command("RCPT", &format!("TO:<r{n}+rcpt{code}+each{each}@far.test>"), To::Rcpt, code);
        s.script.intended.recipients.add(Outcome::of(code));
        match code / 100 {
            2 => all.each.push(each),
            4 => all.deferred += 1,
            _ => all.rejected += 1,
        }
    }
    all
}

pub(super) fn some_recipients(s: &mut Speaker) -> Recipients {
    let (count, first) = (s.rng.usize(1..6), s.choose(&[250, 250, 450, 550]));
    recipients(s, count, first)
}

/// The answers to a whole message.
fn outcome(s: &mut Speaker, to: &Recipients, code: u16, prdr: bool) {
    if s.lmtp {
        let last = to.each.len() - 1;
        for (n, &each) in to.each.iter().enumerate() {
            s.expect(if n == last { To::LastOfEach } else { To::Each }, each);
        }
        let any = |class| to.each.iter().any(|each| each / 100 == class);
        let came = if any(2) {
            Outcome::Accepted
        } else if any(4) {
            Outcome::Deferred
        } else {
            Outcome::Rejected
        };
        return s.messages().add(came);
    }
    if prdr {
        s.expect(To::Other, 353);
        to.each.iter().for_each(|&each| s.expect(To::Other, each));
    }
    s.expect(To::Message, code);
    s.messages().add(if code / 100 == 2 { Outcome::Accepted } else { to.failure(code) });
}

fn data(s: &mut Speaker) {
    let (count, first) = (s.rng.usize(1..6), s.choose(&[250, 250, 450, 550]));
    data_to(s, count, first);
}

fn many(s: &mut Speaker) {
    data_to(s, 500, 250);
}

fn data_to(s: &mut Speaker, count: usize, first: u16) {
    let code = s.choose(&[250, 250, 250, 451, 554]);
    let refused = if s.one_in(6) { s.choose(&[451, 554]) } else { 354 };
    let prdr = !s.lmtp && s.one_in(3);
    let parameter = if prdr { " PRDR" } else { "" };
    s.command("MAIL", &format!("FROM:<x+data{refused}+body{code}@far.test>{parameter}"), To::Mail, 250);
    if s.one_in(4) {
        mail(s, "+mail550", 503);
    }
    let to = recipients(s, count, first);
    if to.each.is_empty() || refused != 354 {
        let answer = if to.each.is_empty() { 503 } else { refused };
        s.command_alone("DATA", "", To::Data, answer);
        return s.messages().add(to.failure(answer));
    }
    s.command_alone("DATA", "", To::Data, 354);
    let body = bodies::body(s.rng);
    s.raw(&body);
    outcome(s, &to, code, prdr);
    // The next command may come in one write with the dot.
    if s.rng.bool() {
        s.flush();
    }
}

fn chunk(s: &mut Speaker, chunk: &[u8], last: bool) {
    let size = chunk.len().to_string() + if last { [" LAST", " last", "\tLast"][s.rng.usize(..3)] } else { "" };
    let line = s.spelled("BDAT", &size);
    s.raw(line.as_bytes());
    s.raw(chunk);
    if last {
        s.expect(To::Sent, 0);
    }
}

fn bdat(s: &mut Speaker) {
    if !s.chunking {
        return s.command("BDAT", "5 LAST", To::Other, 502);
    }
    let code = s.choose(&[250, 250, 250, 451, 554]);
    let chunk_code = if s.one_in(6) { s.choose(&[452, 552]) } else { 250 };
    mail(s, &format!("+chunk{chunk_code}+body{code}"), 250);
    let to = some_recipients(s);
    let mut failed = None;
    for _ in 0..s.rng.u32(0..6) {
        let bytes = bodies::chunk(s.rng);
        chunk(s, &bytes, false);
        let answer = if to.each.is_empty() || failed.is_some() { 503 } else { chunk_code };
        s.expect(To::Chunk, answer);
        if answer / 100 != 2 && failed.is_none() {
            failed = Some(to.failure(answer));
        }
        if s.rng.bool() {
            s.flush();
        }
    }
    let bytes = bodies::chunk(s.rng);
    chunk(s, &bytes, true);
    if to.each.is_empty() || failed.is_some() {
        s.expect(To::Message, 503);
        s.messages().add(failed.unwrap_or(to.failure(503)));
    } else {
        outcome(s, &to, code, false);
    }
}

fn given_up(s: &mut Speaker) {
    mail(s, "", 250);
    let to = if s.one_in(4) { Recipients::default() } else { some_recipients(s) };
    if s.rng.bool() {
        s.command("RSET", "", To::Reset, 250);
    } else {
        hello(s);
    }
    to.given_up().into_iter().for_each(|came| s.messages().add(came));
}

fn senders(s: &mut Speaker) {
    for _ in 0..s.rng.u32(1..5) {
        let code = s.choose(&[451, 550, 552]);
        mail(s, &format!("+mail{code}"), code);
        s.messages().add(Outcome::of(code));
    }
}

fn out_of_order(s: &mut Speaker) {
    s.command("RCPT", "TO:<a@far.test>", To::Rcpt, 503);
    s.script.intended.recipients.rejected += 1;
    s.command_alone("DATA", "", To::Data, 503);
    if s.chunking {
        chunk(s, b"DATA\r\n", false);
        s.expect(To::Chunk, 503);
        chunk(s, b"", true);
        s.expect(To::Message, 503);
    }
    // Without any recipient, which is the only reason to fail that is left.
    mail(s, "", 250);
    s.command_alone("DATA", "", To::Data, 503);
    s.messages().rejected += 1;
}

fn auth(s: &mut Speaker) {
    let (mechanism, questions) =
        s.choose(&[("PLAIN", 1), ("PLAIN eA==", 0), ("LOGIN", 2), ("login eA==", 1), ("X-NO", 0)]);
    let answer = |left| match (left, mechanism) {
        (0, "X-NO") => 504,
        (0, _) => 235,
        _ => 334,
    };
    s.command_alone("AUTH", mechanism, To::Other, answer(questions));
    for left in (0..questions).rev() {
        let cancelled = s.one_in(4);
        let lines = ["DATA\r\n", "MAIL FROM:<x@far.test>\n", "\r\n", "QUIT\r\n", "334 eA==\r\n", "BDAT 3 LAST\r\n"];
        let line = if cancelled { "*\r\n" } else { s.choose(&lines) };
        s.raw(line.as_bytes());
        s.expect(To::Other, if cancelled { 501 } else { answer(left) });
        s.flush();
        if cancelled {
            break;
        }
    }
}

fn junk(s: &mut Speaker) {
    let lines = [
        "MAILX FROM:<x@far.test>\r\n",
        "STARTTLSX\r\n",
        "\r\n",
        "\n",
        " \t\n",
        "354 go ahead\r\n",
        "250 ok\n",
        "DATAS\r\n",
        "\rQUIT\r\n",
        "D\0ATA\r\n",
        "XXXX\rDATA\rQUIT\0\r\n",
        "BDA 5 LAST\r\n",
        "RSET1\r\r\r\n",
        "\u{feff}RCPT TO:<a@far.test>\r\n",
    ];
    for _ in 0..s.rng.u32(1..30) {
        match s.rng.u32(0..40) {
            0 => s.raw(format!("XXXX {}\r\n", "DATA \r\0".repeat(150_000)).as_bytes()),
            1 => s.raw(("X".repeat(1_000_000) + "\n").as_bytes()),
            2..10 => {
                s.command("NOOP", "354 go ahead", To::Other, 250);
                continue;
            }
            _ => {
                let line = s.choose(&lines);
                s.raw(line.as_bytes());
            }
        }
        s.expect(To::Other, 502);
    }
}
