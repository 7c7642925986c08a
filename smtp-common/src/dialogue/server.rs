//! The half that reads what the server sends, and tells what became of what the client asked for.

use core::hint::black_box;

use super::{STOPPED, Shared, chunking};
use crate::{
    automaton::{
        CHUNK, Chunk,
        action::{self, Number},
    },
    command::kind,
    reply,
    tally::{MessageOutcome, RecipientOutcome},
};

/// The half that reads what the server sends.
#[repr(C)]
#[derive(Default)]
pub struct Server {
    state: u8,
    /// What the next reply is: a [`next`] value.
    next: u8,
    /// 0: the next byte decides whether what follows is TLS.
    in_clear: u8,
    /// 1 after LHLO.
    lmtp: u8,
    code: u32,
    /// 1 while a transaction is open.
    open: u32,
    /// Recipients of it that were accepted, deferred and rejected.
    accepted: u32,
    deferred: u32,
    rejected: u32,
    /// Replies still to come for single recipients, after a body.
    remaining: u32,
    /// What those that came said: bits of 1 for accepted, 2 for deferred.
    said: u32,
    /// 1 while a reply to EHLO is being read.
    chunking: u32,
    /// Replies read.
    pub replies: u32,
    /// Actions the last scan has met.
    seen: u32,
    _pad: u32,
}

const _: () = assert!(size_of::<Server>() == 48);

/// What the next reply is. Values of [`Server::next`].
mod next {
    pub(super) const GREETING: u8 = 0;
    /// The answer to the oldest pending command.
    pub(super) const ANSWER: u8 = 1;
    /// The outcome of a message.
    pub(super) const OUTCOME: u8 = 2;
    /// That of one recipient (LMTP); the last of them decides.
    pub(super) const RECIPIENT: u8 = 3;
    /// That of one recipient (PRDR); one for the whole message comes after them.
    pub(super) const PRDR_RECIPIENT: u8 = 4;
    /// The outcome of a message after those of its recipients.
    pub(super) const LAST_OUTCOME: u8 = 5;
}

/// What a reply brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// The server asks for the body.
    pub go_ahead: bool,
    pub message: Option<MessageOutcome>,
    pub recipient: Option<RecipientOutcome>,
}

impl Effect {
    const NOTHING: Self = Self { go_ahead: false, message: None, recipient: None };
}

impl Server {
    /// For a conversation that was met in the middle.
    #[inline(always)]
    pub(super) fn join_late(&mut self) {
        self.state = 0;
        self.next = next::ANSWER;
        self.in_clear = 1;
        self.close();
    }

    /// Before a chunk that begins with this byte. False where nothing of it is to be read: TLS begins.
    #[inline(always)]
    pub fn prepare(&mut self, shared: &Shared, first: u8) -> bool {
        if self.in_clear == 0 {
            // ContentType of TLSPlaintext (RFC 8446, 5.1): change_cipher_spec to application_data. No reply begins so.
            if first.wrapping_sub(20) < 4 {
                shared.encrypted.set(1);
                return false;
            }
            self.in_clear = 1;
        }
        true
    }

    /// Reads `len` bytes (1 to the size of a chunk), up to the end of a reply. Returns how many it read, at least 1, and
    /// [`STOPPED`] with it where a reply has ended.
    #[inline(always)]
    pub fn scan(&mut self, chunk: &Chunk, len: u32) -> u32 {
        let mut at = self.state;
        let mut code = Number { value: self.code as u64, digits: 0 };
        let mut seen = 0;
        let mut stopped = 0;
        let mut i = 0;
        // The verifier needs the first bound, and the compiler is not to make one of both.
        while i < CHUNK as u32 && i < black_box(len) {
            let byte = chunk.byte(i);
            let entry = reply::TABLE.step(at, reply::CLASS[byte as usize]);
            code.step(entry, byte);
            seen |= entry;
            at = (entry & action::STATE) as u8;
            i += 1;
            if entry & action::STOP != 0 {
                stopped = STOPPED;
                break;
            }
        }
        self.state = at;
        self.code = code.value as u32;
        self.seen = seen;
        i | stopped
    }

    /// After a chunk: what the reply that has ended in it brings about.
    #[inline(always)]
    pub fn conclude(&mut self, shared: &Shared, scanned: u32) -> Effect {
        let seen = self.seen;
        if seen & reply::ODD != 0 {
            shared.confuse();
        }
        if seen & reply::CHUNKING != 0 {
            self.chunking = 1;
        }
        if scanned & STOPPED != 0 { self.reply(shared) } else { Effect::NOTHING }
    }

    /// All three. Returns how many bytes it came, at least 1.
    #[cfg(test)]
    pub(super) fn read(&mut self, shared: &Shared, chunk: &Chunk, len: u32) -> (u32, Effect) {
        if !self.prepare(shared, chunk.byte(0)) {
            return (len, Effect::NOTHING);
        }
        let scanned = self.scan(chunk, len);
        (scanned & !STOPPED, self.conclude(shared, scanned))
    }

    /// Whether the server has agreed to TLS and not said a byte since.
    #[inline(always)]
    pub fn awaits_tls(&self) -> bool {
        self.in_clear == 0 && self.replies != 0
    }

    /// A reply is complete.
    #[inline(always)]
    fn reply(&mut self, shared: &Shared) -> Effect {
        self.replies = self.replies.wrapping_add(1);
        let offers_chunking = self.chunking;
        self.chunking = 0;
        match self.next {
            next::GREETING => {
                self.next = next::ANSWER;
                Effect::NOTHING
            }
            next::ANSWER => self.answer(shared, offers_chunking),
            next::OUTCOME => {
                self.pop_end_of_data(shared);
                self.outcome()
            }
            next::LAST_OUTCOME => self.message(self.result()),
            _ => self.one_of_several(),
        }
    }

    #[inline(always)]
    fn class(&self) -> u32 {
        self.code / 100
    }

    /// The oldest command that is not answered has its answer.
    #[inline(always)]
    fn answer(&mut self, shared: &Shared, offers_chunking: u32) -> Effect {
        let number = shared.answered.get();
        let what = if shared.pending() == 0 {
            // 421 may come at any time (RFC 5321, 3.8).
            if self.code != 421 {
                shared.confuse();
            }
            kind::OTHER
        } else {
            let what = shared.kind_at(number).get();
            shared.answer.set(self.code);
            shared.answered.set(number.wrapping_add(1));
            what
        };
        if self.code == 354 {
            return self.go_ahead(shared, what);
        }
        let ok = self.class() == 2;
        match what {
            kind::MAIL => self.mail(ok),
            kind::RCPT => self.rcpt(),
            kind::DATA | kind::BDAT if self.class() >= 4 => self.give_up(),
            kind::BDAT_LAST if self.open != 0 => self.outcome(),
            kind::STARTTLS if self.code == 220 => {
                self.in_clear = 0;
                self.reset()
            }
            kind::EHLO | kind::LHLO | kind::HELO => {
                if ok {
                    let offered = what != kind::HELO && offers_chunking != 0;
                    shared.chunking.set(if offered { chunking::YES } else { chunking::NO });
                    self.lmtp = (what == kind::LHLO) as u8;
                } else if shared.chunking.get() != chunking::YES {
                    shared.chunking.set(chunking::NO);
                }
                self.reset()
            }
            kind::RESET => self.reset(),
            _ => Effect::NOTHING,
        }
    }

    #[inline(always)]
    fn go_ahead(&mut self, shared: &Shared, what: u8) -> Effect {
        if what != kind::DATA {
            shared.confuse();
        }
        if shared.is_unclear() {
            // Whatever was pending, this is the answer to a DATA, after which a client waits: here both are together again.
            shared.answered.set(shared.sent.get());
        }
        shared.go_aheads.set(shared.go_aheads.get().wrapping_add(1));
        self.next = next::OUTCOME;
        Effect { go_ahead: true, ..Effect::NOTHING }
    }

    #[inline(always)]
    fn mail(&mut self, ok: bool) -> Effect {
        if ok {
            let effect = self.reset();
            self.open = 1;
            return effect;
        }
        match self.class() {
            4 if self.open == 0 => self.message(MessageOutcome::Deferred),
            5 if self.open == 0 => self.message(MessageOutcome::Rejected),
            _ => Effect::NOTHING,
        }
    }

    #[inline(always)]
    fn rcpt(&mut self) -> Effect {
        let outcome = match self.class() {
            2 => RecipientOutcome::Accepted,
            4 => RecipientOutcome::Deferred,
            _ => RecipientOutcome::Rejected,
        };
        if self.open != 0 {
            match outcome {
                RecipientOutcome::Accepted => self.accepted += 1,
                RecipientOutcome::Deferred => self.deferred += 1,
                RecipientOutcome::Rejected => self.rejected += 1,
            }
        }
        Effect { recipient: Some(outcome), ..Effect::NOTHING }
    }

    /// DATA or BDAT was refused: that ends the transaction.
    #[inline(always)]
    fn give_up(&mut self) -> Effect {
        if self.open == 0 { Effect::NOTHING } else { self.message(self.failure()) }
    }

    /// What is undecided comes to an end: RSET and what implies it.
    #[inline(always)]
    fn reset(&mut self) -> Effect {
        let effect = match self.unfinished() {
            Some(outcome) => self.message(outcome),
            None => Effect::NOTHING,
        };
        self.close();
        effect
    }

    /// The first reply after a whole body.
    #[inline(always)]
    fn outcome(&mut self) -> Effect {
        if self.code == 353 && self.accepted > 0 {
            self.next = next::PRDR_RECIPIENT;
            self.remaining = self.accepted;
            return Effect::NOTHING;
        }
        if self.lmtp != 0 && self.accepted > 1 {
            self.next = next::RECIPIENT;
            self.said = 0;
            self.remaining = self.accepted;
            return self.one_of_several();
        }
        self.message(self.result())
    }

    /// A reply for one recipient of several.
    #[inline(always)]
    fn one_of_several(&mut self) -> Effect {
        self.said |= match self.class() {
            2 => 1,
            4 => 2,
            _ => 0,
        };
        self.remaining = self.remaining.wrapping_sub(1);
        if self.remaining != 0 {
            return Effect::NOTHING;
        }
        if self.next == next::PRDR_RECIPIENT {
            self.next = next::LAST_OUTCOME;
            return Effect::NOTHING;
        }
        self.message(match self.said {
            0 => MessageOutcome::Rejected,
            2 => MessageOutcome::Deferred,
            _ => MessageOutcome::Accepted,
        })
    }

    /// A message has its outcome, and the transaction is over.
    #[inline(always)]
    fn message(&mut self, outcome: MessageOutcome) -> Effect {
        self.close();
        self.next = next::ANSWER;
        Effect { message: Some(outcome), ..Effect::NOTHING }
    }

    #[inline(always)]
    fn close(&mut self) {
        self.open = 0;
        self.accepted = 0;
        self.deferred = 0;
        self.rejected = 0;
    }

    #[inline(always)]
    fn result(&self) -> MessageOutcome {
        if self.class() == 2 { MessageOutcome::Accepted } else { self.failure() }
    }

    /// How a message failed: by its recipients where none was accepted, else by this reply.
    #[inline(always)]
    fn failure(&self) -> MessageOutcome {
        let by_recipients = self.accepted == 0;
        if by_recipients && self.deferred > 0 {
            MessageOutcome::Deferred
        } else if by_recipients && self.rejected > 0 || self.class() != 4 {
            MessageOutcome::Rejected
        } else {
            MessageOutcome::Deferred
        }
    }

    /// The outcome of a transaction that ends here without one: failed when no recipient was accepted of some.
    #[inline(always)]
    fn unfinished(&self) -> Option<MessageOutcome> {
        if self.open == 0 || self.accepted != 0 {
            None
        } else if self.deferred != 0 {
            Some(MessageOutcome::Deferred)
        } else if self.rejected != 0 {
            Some(MessageOutcome::Rejected)
        } else {
            None
        }
    }

    #[inline(always)]
    fn pop_end_of_data(&mut self, shared: &Shared) {
        let number = shared.answered.get();
        if shared.pending() != 0 && shared.kind_at(number).get() == kind::END_OF_DATA {
            shared.answered.set(number.wrapping_add(1));
        } else if shared.pending() == 0 && shared.odd_end.get() != 0 {
            shared.early_ends.set(shared.early_ends.get().wrapping_add(1));
        } else if self.code != 421 {
            shared.confuse();
        }
    }

    /// The connection has ended. What becomes of the message that was under way, if one was.
    #[inline(always)]
    pub fn end(&mut self, shared: &Shared) -> Option<MessageOutcome> {
        if self.next == next::RECIPIENT && self.said & 1 != 0 {
            return Some(MessageOutcome::Accepted);
        }
        if self.next > next::ANSWER || self.open != 0 && shared.awaits_outcome() {
            return Some(MessageOutcome::Unknown);
        }
        self.unfinished()
    }
}
