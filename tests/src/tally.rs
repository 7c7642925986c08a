//! What mail conversations come to, by the rules the agent counts by: the book that every witness keeps for itself.
//!
//! A witness writes down what it did or saw as [`Event`]s; it never looks at the wire. The sink writes what it
//! decided to answer, a client what it was answered.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What became of a message or of a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Accepted,
    Deferred,
    Rejected,
}

impl Outcome {
    pub fn of(code: u16) -> Self {
        match code / 100 {
            2 => Self::Accepted,
            4 => Self::Deferred,
            _ => Self::Rejected,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outcomes {
    pub accepted: u64,
    pub deferred: u64,
    pub rejected: u64,
}

impl Outcomes {
    pub fn of(accepted: u64, deferred: u64, rejected: u64) -> Self {
        Self { accepted, deferred, rejected }
    }

    pub fn total(&self) -> u64 {
        self.accepted + self.deferred + self.rejected
    }

    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Deferred => self.deferred += 1,
            Outcome::Rejected => self.rejected += 1,
        }
    }
}

impl AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.deferred += other.deferred;
        self.rejected += other.rejected;
    }
}

/// What one conversation, or many, came to. What went on inside TLS is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub sessions: u64,
    /// Sessions that went over to TLS, or began with it.
    pub encrypted: u64,
    pub messages: Outcomes,
    pub recipients: Outcomes,
    /// Messages that were sent, and whose answer never came.
    pub unknown: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.encrypted += other.encrypted;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.unknown += other.unknown;
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum += tally;
            sum
        })
    }
}

/// Something that happened in a conversation; a number is the code of the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Mail(u16),
    Rcpt(u16),
    /// The answer to DATA itself.
    Data(u16),
    /// The answer to a BDAT that is not the last.
    Chunk(u16),
    /// BDAT LAST was sent; its answer is to come.
    LastChunk,
    /// The answer to the message.
    Message(u16),
    /// LMTP: the answers to the message, one for each recipient that had been accepted.
    MessageForEach(Vec<u16>),
    /// RSET, EHLO, HELO, LHLO or QUIT was answered.
    Reset,
    /// From here on nobody outside can read.
    Encrypted,
    End,
}

#[derive(Clone, Copy, Default)]
struct Transaction {
    recipients: Outcomes,
    /// The message is sent and not answered.
    waits: bool,
}

impl Transaction {
    /// What a failure is called: the recipients' answers tell more than that of a message without any.
    fn failed(&self, code: u16) -> Outcome {
        match self.recipients {
            Outcomes { accepted: 0, deferred: 1.., .. } => Outcome::Deferred,
            Outcomes { accepted: 0, rejected: 1.., .. } => Outcome::Rejected,
            _ if code / 100 == 4 => Outcome::Deferred,
            _ => Outcome::Rejected,
        }
    }
}

/// The book of one conversation.
pub struct Ledger {
    tally: Tally,
    open: Option<Transaction>,
    closed: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { tally: Tally { sessions: 1, ..Tally::default() }, open: None, closed: false }
    }
}

impl Ledger {
    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub fn note(&mut self, event: &Event) {
        if self.closed {
            return;
        }
        match *event {
            Event::Mail(code) => self.mail(code),
            Event::Rcpt(code) => {
                self.tally.recipients.add(Outcome::of(code));
                if let Some(open) = &mut self.open {
                    open.recipients.add(Outcome::of(code));
                }
            }
            Event::Data(354) | Event::LastChunk => {
                if let Some(open) = &mut self.open {
                    open.waits = true;
                }
            }
            Event::Data(code) | Event::Chunk(code) => {
                if code / 100 >= 4 {
                    self.settle(code);
                }
            }
            Event::Message(code) => self.settle(code),
            Event::MessageForEach(ref codes) => {
                let class = |class| codes.iter().find(|&&code| code / 100 == class).copied();
                self.settle(class(2).or(class(4)).unwrap_or(550));
            }
            Event::Reset => self.give_up(),
            Event::Encrypted => {
                self.tally.encrypted += 1;
                self.closed = true;
            }
            Event::End => {
                if self.open.is_some_and(|open| open.waits) {
                    self.tally.unknown += 1;
                } else {
                    self.give_up();
                }
                self.closed = true;
            }
        }
    }

    fn mail(&mut self, code: u16) {
        match Outcome::of(code) {
            Outcome::Accepted => {
                self.give_up();
                self.open = Some(Transaction::default());
            }
            // Said while another transaction is open, it was out of order and changes nothing.
            _ if self.open.is_some() => {}
            failed => self.tally.messages.add(failed),
        }
    }

    /// The transaction ends with this answer.
    fn settle(&mut self, code: u16) {
        if let Some(open) = self.open.take() {
            self.tally.messages.add(if code / 100 == 2 { Outcome::Accepted } else { open.failed(code) });
        }
    }

    /// The transaction ends without a message: failed when that is why.
    fn give_up(&mut self) {
        if let Some(open) = self.open.take()
            && open.recipients.accepted == 0
            && open.recipients.total() > 0
        {
            self.tally.messages.add(open.failed(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Event::{Chunk, Data, Encrypted, End, LastChunk, Mail, Message, MessageForEach, Rcpt, Reset};

    #[track_caller]
    fn case(events: &[Event], messages: [u64; 3], recipients: [u64; 3], unknown: u64) {
        let mut ledger = Ledger::default();
        events.iter().for_each(|event| ledger.note(event));
        let tally = ledger.tally();
        let outcomes = |[a, d, r]: [u64; 3]| Outcomes::of(a, d, r);
        assert_eq!((tally.messages, tally.recipients), (outcomes(messages), outcomes(recipients)), "{events:?}");
        assert_eq!((tally.unknown, tally.sessions), (unknown, 1), "{events:?}");
    }

    #[test]
    fn the_answer_to_the_message_decides() {
        case(&[Mail(250), Rcpt(250), Rcpt(550), Data(354), Message(250), End], [1, 0, 0], [1, 0, 1], 0);
        case(&[Mail(250), Rcpt(250), Data(354), Message(452), End], [0, 1, 0], [1, 0, 0], 0);
        case(&[Mail(250), Rcpt(250), Rcpt(450), Data(354), Message(554), End], [0, 0, 1], [1, 1, 0], 0);
        case(&[Mail(250), Rcpt(250), Chunk(250), LastChunk, Message(250), Reset], [1, 0, 0], [1, 0, 0], 0);
        case(&[Mail(250), Rcpt(250), Rcpt(250), Data(354), MessageForEach(vec![550, 250])], [1, 0, 0], [2, 0, 0], 0);
        case(&[Mail(250), Rcpt(250), Rcpt(250), Data(354), MessageForEach(vec![550, 450])], [0, 1, 0], [2, 0, 0], 0);
        case(&[Mail(250), Rcpt(250), Data(354), MessageForEach(vec![550])], [0, 0, 1], [1, 0, 0], 0);
    }

    #[test]
    fn a_transaction_without_an_accepted_recipient_fails_as_its_recipients_did() {
        case(&[Mail(250), Rcpt(550), Rcpt(450), Data(503), Reset], [0, 1, 0], [0, 1, 1], 0);
        case(&[Mail(250), Rcpt(550), Data(451), End], [0, 0, 1], [0, 0, 1], 0);
        for end in [Reset, Mail(250), End] {
            case(&[Mail(250), Rcpt(450), Rcpt(550), end.clone()], [0, 1, 0], [0, 1, 1], 0);
            case(&[Mail(250), Rcpt(550), end], [0, 0, 1], [0, 0, 1], 0);
        }
        case(&[Mail(250), Data(503), End], [0, 0, 1], [0, 0, 0], 0);
    }

    #[test]
    fn who_gives_up_by_himself_has_sent_nothing() {
        case(&[Mail(250), Rcpt(250), Rcpt(550), Reset, End], [0, 0, 0], [1, 0, 1], 0);
        case(&[Mail(250), End], [0, 0, 0], [0, 0, 0], 0);
        case(&[Rcpt(503), Data(503), Message(503), End], [0, 0, 0], [0, 0, 1], 0);
    }

    #[test]
    fn a_refused_sender_is_a_failure_unless_it_was_out_of_order() {
        case(&[Mail(451), Mail(550), End], [0, 1, 1], [0, 0, 0], 0);
        case(&[Mail(250), Mail(503), Rcpt(250), Data(354), Message(250)], [1, 0, 0], [1, 0, 0], 0);
    }

    #[test]
    fn a_failed_chunk_ends_the_transaction_once() {
        case(&[Mail(250), Rcpt(250), Chunk(452), Chunk(503), LastChunk, Message(503)], [0, 1, 0], [1, 0, 0], 0);
        case(&[Mail(250), Rcpt(250), Data(451), Mail(250), Reset], [0, 1, 0], [1, 0, 0], 0);
    }

    #[test]
    fn what_was_sent_and_not_answered_is_unknown() {
        case(&[Mail(250), Rcpt(250), Data(354), End], [0, 0, 0], [1, 0, 0], 1);
        case(&[Mail(250), Rcpt(250), Chunk(250), LastChunk, End, End], [0, 0, 0], [1, 0, 0], 1);
        case(&[Mail(250), Rcpt(250), Chunk(250), End], [0, 0, 0], [1, 0, 0], 0);
    }

    #[test]
    fn nothing_is_counted_inside_tls() {
        case(&[Encrypted, Mail(250), Rcpt(250), Data(354), Message(250), End], [0, 0, 0], [0, 0, 0], 0);
    }
}
