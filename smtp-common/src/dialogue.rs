//! A conversation: which reply answers which command, and what became of each recipient and message.
//!
//! Two parties read one connection at the same time, on any two processors: the packets that leave and those that
//! arrive. Each owns its half; what the other needs of it is in [`Shared`], written by one side only. A reply cannot
//! arrive before its command has left, nor a client act on a reply before it has arrived, and so what a side finds
//! in there is never older than what it depends on.

mod client;
mod server;

use core::cell::Cell;

use crate::command::{self, kind};

pub use client::Client;
pub use server::{Effect, Server};

/// Room for commands that wait for their replies: more than the 500 recipients that list managers send in one group. A
/// power of two; a chunk can add as many as it has bytes.
pub const PENDING: u32 = 1024;

/// What each half tells the other. Each field has one writer and is read whole.
#[repr(C)]
pub struct Shared {
    /// Commands sent so far. Written by the client's half, as the next field is.
    sent: Cell<u32>,
    /// Whether the body that is being sent has held what some servers take for its end.
    odd_end: Cell<u32>,
    /// Commands answered so far. Written by the server's half, as all that follow are.
    answered: Cell<u32>,
    /// The code that answered the last DATA, AUTH or STARTTLS.
    answer: Cell<u32>,
    /// Bodies the server took for ended before the client's half did.
    early_ends: Cell<u32>,
    /// Whether the server takes BDAT: a [`chunking`] value.
    chunking: Cell<u32>,
    /// 1 from the first byte of TLS.
    encrypted: Cell<u32>,
    /// 354 replies so far.
    go_aheads: Cell<u32>,
    /// 1 once something was not understood. Either half writes it.
    unclear: Cell<u32>,
    _pad: u32,
    /// What was sent, by number modulo [`PENDING`].
    kinds: [Cell<u8>; PENDING as usize],
}

const _: () = assert!(size_of::<Shared>() == 40 + PENDING as usize);

/// Values of [`Shared::chunking`].
mod chunking {
    /// 0: no reply to EHLO yet. A client that sends BDAT may know the server from before.
    pub(super) const NO: u32 = 1;
    pub(super) const YES: u32 = 2;
}

/// What a client did that it should not. Bits of [`Client::marks`].
pub mod mark {
    /// The client did not wait for a reply it must wait for.
    pub const HASTY: u32 = 1;
    /// A body held another command behind an end that only some servers see.
    pub const SMUGGLED: u32 = 1 << 1;
    /// More commands than there is room for were sent ahead.
    pub const FLOODED: u32 = 1 << 2;
    /// A chunk was sent to a server that has not offered to take any, or a message by BURL (RFC 4468).
    pub const UNOFFERED: u32 = 1 << 3;
    /// Urgent data was sent (RFC 9293, 3.8.5): it stands in the stream, and a server leaves it out of what it reads.
    pub const URGENT: u32 = 1 << 4;
    /// What no client does that means what it says: whether the server then reads what we read cannot be known.
    pub const EVASIVE: u32 = HASTY | SMUGGLED | FLOODED | UNOFFERED | URGENT;
}

/// Beside the count of bytes a scan has read: it met something that must be looked at.
pub const STOPPED: u32 = 1 << 16;

impl Shared {
    #[inline(always)]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted.get() != 0
    }

    /// True once something was not understood: what is counted from then on is told by 354 and the reply after it.
    #[inline(always)]
    pub fn is_unclear(&self) -> bool {
        self.unclear.get() != 0
    }

    #[inline(always)]
    pub fn confuse(&self) {
        self.unclear.set(1);
    }

    #[inline(always)]
    fn pending(&self) -> u32 {
        self.sent.get().wrapping_sub(self.answered.get())
    }

    /// Whether the last chunk of the message under way was sent and is not answered.
    #[inline(always)]
    fn awaits_outcome(&self) -> bool {
        let pending = self.pending();
        let mut n = 0;
        while n < PENDING && n < pending {
            let what = self.kind_at(self.answered.get().wrapping_add(n)).get();
            if what == kind::BDAT_LAST {
                return true;
            }
            if command::RESETS >> what & 1 != 0 {
                // What follows belongs to another message.
                return false;
            }
            n += 1;
        }
        false
    }

    #[inline(always)]
    fn kind_at(&self, number: u32) -> &Cell<u8> {
        &self.kinds[(number & (PENDING - 1)) as usize]
    }
}

/// One conversation, as it lies beside its socket.
#[repr(C)]
pub struct Dialogue {
    pub shared: Shared,
    pub client: Client,
    pub server: Server,
}

const _: () = assert!(size_of::<Dialogue>() == 152 + PENDING as usize);

impl Dialogue {
    /// Part of the conversation was not seen, be it the beginning: nothing is understood before the next 354.
    #[inline(always)]
    pub fn join_late(&mut self) {
        self.shared.confuse();
        self.shared.answered.set(self.shared.sent.get());
        self.client.join_late(&self.shared);
        self.server.join_late();
    }

    /// Urgent data is being sent.
    #[inline(always)]
    pub fn urgent(&mut self) {
        self.client.mark(&self.shared, mark::URGENT);
    }

    /// More was sent in one packet than can be read.
    #[inline(always)]
    pub fn flood(&mut self) {
        self.client.flood(&self.shared);
    }

    /// Whether what is said is out of sight, or was to be when it ended.
    #[inline(always)]
    pub fn is_encrypted(&self) -> bool {
        self.shared.is_encrypted() || self.server.awaits_tls()
    }
}

#[cfg(test)]
mod tests;
