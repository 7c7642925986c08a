//! Message after message.

use super::{
    How, Plan, Report,
    wire::{Cut, Wire},
};
use crate::tally::{Event, Ledger};
use std::{thread, time::Duration};

pub(super) fn send(plan: &Plan) -> Report {
    thread::scope(|scope| {
        let all: Vec<_> = (0..plan.threads).map(|_| scope.spawn(|| one_thread(plan))).collect();
        all.into_iter().map(|one| one.join().expect("a thread of the mailer does not panic")).sum()
    })
}

fn one_thread(plan: &Plan) -> Report {
    let mut report = Report::default();
    let mut open: Option<Conversation> = None;
    for n in 0..plan.messages {
        if n > 0 && plan.pause > 0 {
            thread::sleep(Duration::from_millis(plan.pause));
        }
        let mut conversation = match open.take() {
            Some(conversation) => conversation,
            None => match Conversation::begin(plan) {
                Ok(conversation) => conversation,
                Err(error) => {
                    *report.unconnected.entry(error).or_default() += 1;
                    continue;
                }
            },
        };
        match conversation.message(plan, n) {
            Ok(()) if (n + 1) % plan.each == 0 => conversation.quit(&mut report),
            Ok(()) => open = Some(conversation),
            Err(cut) => conversation.end(cut, &mut report),
        }
    }
    if let Some(conversation) = open {
        conversation.quit(&mut report);
    }
    report
}

struct Conversation {
    wire: Wire,
    ledger: Ledger,
    greeted: bool,
}

impl Conversation {
    fn begin(plan: &Plan) -> Result<Self, String> {
        let wire = Wire::to(plan)?;
        Ok(Self { wire, ledger: Ledger::default(), greeted: false })
    }

    fn ask(&mut self, text: &str) -> Result<u16, Cut> {
        self.wire.say(text.as_bytes())?;
        self.wire.hear()
    }

    fn quit(mut self, report: &mut Report) {
        // The last message was answered: what becomes of QUIT does not matter.
        if self.ask("QUIT\r\n").is_ok() {
            self.ledger.note(&Event::Reset);
        }
        self.close(report);
    }

    fn end(self, cut: Cut, report: &mut Report) {
        *report.cut.entry(cut.name).or_default() += 1;
        report.slowest_cut = report.slowest_cut.max(cut.after.as_millis() as u64);
        self.close(report);
    }

    fn close(mut self, report: &mut Report) {
        self.ledger.note(&Event::End);
        report.seen += self.ledger.tally();
        report.sent += self.wire.sent;
        report.received += self.wire.received;
    }

    fn message(&mut self, plan: &Plan, n: u32) -> Result<(), Cut> {
        if !self.greeted {
            self.wire.hear()?;
            self.ask("EHLO client.test\r\n")?;
            self.ledger.note(&Event::Reset);
            self.greeted = true;
        }
        let mut commands = vec![format!("MAIL FROM:<shop{}@client.test>\r\n", plan.sender_tag)];
        let recipient = |k| format!("RCPT TO:<you{k}{}@far.test>\r\n", plan.recipient_tag);
        commands.extend((0..plan.recipients).map(recipient));
        let by_data = plan.how == How::Data || plan.how == How::Mixed && n.is_multiple_of(2);
        let last = if by_data { "DATA\r\n".to_string() } else { chunks(n) };
        if plan.pipeline {
            commands.push(last);
            self.wire.say(commands.concat().as_bytes())?;
            let accepted = self.envelope(plan)?;
            return if by_data { self.data() } else { self.chunked(n, accepted) };
        }
        let mut accepted = 0;
        for (k, command) in commands.iter().enumerate() {
            let code = self.ask(command)?;
            accepted += self.note(k, code);
        }
        if accepted == 0 {
            self.ask("RSET\r\n")?;
            self.ledger.note(&Event::Reset);
            return Ok(());
        }
        self.wire.say(last.as_bytes())?;
        if by_data { self.data() } else { self.chunked(n, accepted) }
    }

    /// The answers to MAIL and RCPT; how many recipients were accepted.
    fn envelope(&mut self, plan: &Plan) -> Result<u32, Cut> {
        let mut accepted = 0;
        for k in 0..=plan.recipients as usize {
            let code = self.wire.hear()?;
            accepted += self.note(k, code);
        }
        Ok(accepted)
    }

    /// The answer to MAIL or to a recipient; 1 for one that was accepted.
    fn note(&mut self, k: usize, code: u16) -> u32 {
        self.ledger.note(&if k == 0 { Event::Mail(code) } else { Event::Rcpt(code) });
        u32::from(k > 0 && code / 100 == 2)
    }

    /// DATA was said.
    fn data(&mut self) -> Result<(), Cut> {
        let code = self.wire.hear()?;
        self.ledger.note(&Event::Data(code));
        if code != 354 {
            return Ok(());
        }
        let code = self.ask(&format!("{TEXT}.\r\n"))?;
        self.ledger.note(&Event::Message(code));
        Ok(())
    }

    /// The chunks were sent. Those of a message that nobody is to get are in vain, and answered.
    fn chunked(&mut self, n: u32, accepted: u32) -> Result<(), Cut> {
        if in_two(n) {
            let code = self.wire.hear()?;
            self.ledger.note(&Event::Chunk(code));
        }
        if accepted > 0 {
            self.ledger.note(&Event::LastChunk);
        }
        let code = self.wire.hear()?;
        self.ledger.note(&Event::Message(code));
        Ok(())
    }
}

const TEXT: &str = "From: shop@client.test\r\nTo: you@far.test\r\nSubject: a test\r\n\r\nDATA\r\n354 hello\r\n";

fn in_two(n: u32) -> bool {
    n % 4 >= 2
}

fn chunks(n: u32) -> String {
    let (first, second) = if in_two(n) { TEXT.split_at(20) } else { ("", TEXT) };
    let first = if first.is_empty() { String::new() } else { format!("BDAT {}\r\n{first}", first.len()) };
    format!("{first}BDAT {} LAST\r\n{second}", second.len())
}
