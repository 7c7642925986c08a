//! The half that reads what the client sends.

use core::hint::black_box;

use super::{PENDING, STOPPED, Shared, chunking, mark};
use crate::{
    automaton::{
        CHUNK, Chunk, STATES, STRETCH,
        action::{self, Number},
        has_dot_line,
    },
    command::{self, kind, state},
};

/// More digits than any message's size has.
const MAX_SIZE_DIGITS: u32 = 15;

/// What the client's half must see before it reads on. Values of [`Client::waits`].
mod waits {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const DATA: u8 = 1;
    pub(super) const AUTH: u8 = 2;
    pub(super) const STARTTLS: u8 = 3;
    /// Nothing is known before the next 354.
    pub(super) const GO_AHEAD: u8 = 4;
}

/// The half that reads what the client sends.
#[repr(C)]
#[derive(Default)]
pub struct Client {
    state: u8,
    waits: u8,
    /// 1 once a chunk of the transaction under way was sent.
    in_chunks: u8,
    /// 1 after EHLO or LHLO.
    greeted: u8,
    /// Number of the command whose answer is awaited.
    awaited: u32,
    early_ends: u32,
    go_aheads: u32,
    size: u64,
    /// Octets of a chunk (RFC 3030) still to come.
    skip: u64,
    /// Bits of [`mark`].
    pub marks: u32,
    /// Recipients named so far, and messages begun with BDAT.
    pub recipients: u32,
    pub chunked: u32,
    digits: u32,
    /// What the last scan has met: actions, and one bit for each kind of line that has ended.
    seen: u32,
    ended: u32,
    /// Chunks to be read one by one before a stretch is tried again.
    near: u32,
    _pad: u32,
}

const _: () = assert!(size_of::<Client>() == 64);

impl Client {
    /// For a conversation that was met in the middle.
    #[inline(always)]
    pub(super) fn join_late(&mut self, shared: &Shared) {
        self.skip = 0;
        self.in_chunks = 0;
        self.lose_thread(shared);
    }

    /// More was sent ahead than can be kept.
    #[inline(always)]
    pub(super) fn flood(&mut self, shared: &Shared) {
        self.mark(shared, mark::FLOODED);
        self.lose_thread(shared);
    }

    /// From here on nothing is understood before the next 354.
    #[inline(always)]
    fn lose_thread(&mut self, shared: &Shared) {
        self.waits = waits::GO_AHEAD;
        self.go_aheads = shared.go_aheads.get();
    }

    /// Bytes to pass over without a look, at most `ahead`: the content of a chunk (RFC 3030).
    #[inline(always)]
    pub fn skip(&mut self, ahead: u32) -> u32 {
        let skipped = if self.skip < ahead as u64 { self.skip as u32 } else { ahead };
        self.skip -= skipped as u64;
        skipped
    }

    /// Before a chunk: takes notice of what the server has said. False where nothing of the chunk is to be read.
    ///
    /// A chunk is read in three parts, which the probe keeps in functions of their own: the verifier of 6.1 and before walks
    /// what follows the loop over its bytes anew for every byte it may end at.
    #[inline(always)]
    pub fn prepare(&mut self, shared: &Shared) -> bool {
        self.settle(shared);
        if self.waits == waits::GO_AHEAD {
            return false;
        }
        if shared.pending() > PENDING - CHUNK as u32 {
            self.flood(shared);
            return false;
        }
        true
    }

    /// Whether nothing in these octets can matter: they belong to a body and no line in them begins with a dot. Then
    /// [`Self::glide`] does for [`Self::scan`], in a tenth of the time.
    #[inline(always)]
    pub fn may_glide<const WORDS: usize>(&self, words: &[u64; WORDS]) -> bool {
        let begins_dot_line = state::is_line_start(self.state) && words[0] as u8 == b'.';
        state::is_plain_body(self.state) && !begins_dot_line && !has_dot_line(words)
    }

    /// Whether a whole stretch of a body may be worth a look: not where the last one had dot lines.
    #[inline(always)]
    pub fn may_glide_far(&mut self) -> bool {
        if self.near != 0 {
            self.near -= 1;
            return false;
        }
        state::is_plain_body(self.state)
    }

    /// A stretch had dot lines: it is read chunk by chunk.
    #[inline(always)]
    pub fn stay_near(&mut self) {
        self.near = (STRETCH / CHUNK) as u32;
    }

    /// Passes over bytes of which these are the last two.
    #[inline(always)]
    pub fn glide(&mut self, last: [u8; 2]) {
        self.state = state::after_body_bytes(last[0], last[1]);
    }

    /// Reads `len` bytes (1 to the size of a chunk), up to something that must be looked at. Returns how many it read, at
    /// least 1, and [`STOPPED`] with it where it met something.
    #[inline(always)]
    pub fn scan(&mut self, shared: &Shared, chunk: &Chunk, len: u32) -> u32 {
        let mut sent = shared.sent.get();
        let mut at = self.state;
        let mut size = Number { value: self.size, digits: self.digits };
        let (mut seen, mut ended, mut recipients) = (0, 0, 0);
        let mut stopped = 0;
        let mut i = 0;
        // The verifier needs the first bound, and the compiler is not to make one of both.
        while i < CHUNK as u32 && i < black_box(len) {
            let byte = chunk.byte(i);
            let entry = command::TABLE.step(at, command::CLASS[byte as usize]);
            let end = (entry / action::END) & 1;
            size.step(entry, byte);
            let what = command::KINDS[at as usize & (STATES - 1)];
            // Written at every byte, and kept where a line ends: so there is no branch.
            shared.kind_at(sent).set(what);
            sent = sent.wrapping_add(end);
            recipients += end & command::RCPT >> what;
            ended |= end << what;
            seen |= entry;
            at = (entry & action::STATE) as u8;
            i += 1;
            if entry & action::STOP != 0 {
                stopped = STOPPED;
                break;
            }
        }
        self.state = at;
        self.size = size.value;
        self.digits = size.digits;
        self.seen = seen;
        self.ended = ended;
        self.recipients = self.recipients.wrapping_add(recipients);
        shared.sent.set(sent);
        i | stopped
    }

    /// After a chunk: looks at what was met in it.
    #[inline(always)]
    pub fn conclude(&mut self, shared: &Shared, scanned: u32) {
        let (seen, ended) = (self.seen, self.ended);
        self.seen = 0;
        self.ended = 0;
        if ended & command::RESETS != 0 {
            self.in_chunks = 0;
        }
        if ended & command::EXTENDED_HELLO != 0 {
            self.greeted = 1;
        }
        if seen & command::ODD_END != 0 {
            shared.odd_end.set(1);
        }
        if seen & command::SMUGGLED != 0 {
            self.marks |= mark::SMUGGLED;
        }
        if scanned & STOPPED != 0 {
            self.look(shared, shared.sent.get().wrapping_sub(1));
        }
    }

    /// All three. Returns how many bytes it came, at least 1.
    #[cfg(test)]
    pub(super) fn read(&mut self, shared: &Shared, chunk: &Chunk, len: u32) -> u32 {
        if !self.prepare(shared) {
            return len;
        }
        if len > 1 && self.may_glide(&chunk.words) {
            self.glide([chunk.byte(len - 2), chunk.byte(len - 1)]);
            return len;
        }
        let scanned = self.scan(shared, chunk, len);
        self.conclude(shared, scanned);
        scanned & !STOPPED
    }

    #[inline(always)]
    pub(super) fn mark(&mut self, shared: &Shared, mark: u32) {
        self.marks |= mark;
        shared.confuse();
    }

    /// What the command with this number, which was just sent, means for what follows it.
    #[inline(always)]
    fn look(&mut self, shared: &Shared, number: u32) {
        self.awaited = number;
        let what = shared.kind_at(number).get();
        match what {
            kind::DATA => self.waits = waits::DATA,
            kind::STARTTLS => self.waits = waits::STARTTLS,
            kind::AUTH | kind::AUTH_ANSWER => self.waits = waits::AUTH,
            kind::END_OF_DATA => shared.odd_end.set(0),
            kind::BURL => {
                // The message lies elsewhere and is fetched by the server: it has neither octets here nor a 354.
                self.mark(shared, mark::UNOFFERED);
                shared.kind_at(number).set(kind::OTHER);
            }
            _ => self.chunk(shared, number, what),
        }
    }

    /// BDAT was sent.
    #[inline(always)]
    fn chunk(&mut self, shared: &Shared, number: u32, what: u8) {
        let offered = shared.chunking.get();
        if offered != chunking::YES {
            self.marks |= mark::UNOFFERED;
        }
        if offered == chunking::NO || self.greeted == 0 {
            // An unknown command there: its octets are read as commands, as the server will. (Before the reply to EHLO,
            // Exim may know from another connection what will be offered: X_PIPE_CONNECT.)
            shared.kind_at(number).set(kind::OTHER);
            return;
        }
        if self.digits > MAX_SIZE_DIGITS {
            shared.confuse();
            self.lose_thread(shared);
        } else {
            self.skip = self.size;
        }
        if self.in_chunks == 0 {
            self.chunked = self.chunked.wrapping_add(1);
        }
        self.in_chunks = (what == kind::BDAT) as u8;
    }

    /// Takes notice of what the server has said meanwhile.
    #[inline(always)]
    fn settle(&mut self, shared: &Shared) {
        let early_ends = shared.early_ends.get();
        if early_ends != self.early_ends {
            self.early_ends = early_ends;
            if state::is_body(self.state) {
                self.state = state::START;
                shared.odd_end.set(0);
            }
        }
        if self.waits == waits::NOTHING {
            return;
        }
        if self.waits == waits::GO_AHEAD {
            if shared.go_aheads.get() != self.go_aheads {
                self.waits = waits::NOTHING;
                self.state = state::BODY;
            }
            return;
        }
        let code = shared.answer.get();
        let answered = shared.answered.get().wrapping_sub(self.awaited) as i32 > 0;
        if !answered {
            self.mark(shared, mark::HASTY);
        }
        // A body that is sent in haste is read as one: the go-ahead is what its sender counts on.
        self.state = match self.waits {
            waits::DATA if !answered || code == 354 => state::BODY,
            waits::AUTH if answered && code == 334 => state::AUTH_ANSWER,
            _ => state::START,
        };
        self.waits = waits::NOTHING;
    }
}
