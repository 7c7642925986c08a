//! What a hostile client will do in one connection, and what that comes to.

use crate::tally::Tally;

/// What an answer is the answer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    /// Something that counts nothing.
    Other,
    Reset,
    Mail,
    Rcpt,
    Data,
    Chunk,
    Message,
    /// LMTP: the message, for one recipient and for the last one.
    Each,
    LastOfEach,
    /// No answer: BDAT LAST has left, and this is where its own comes.
    Sent,
    /// STARTTLS, which is granted.
    StartTls,
}

/// An answer that has to come, in turn; 0 is one that never will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Awaited {
    pub(super) to: To,
    pub(super) code: u16,
}

/// How the bytes of one utterance are cut into writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    Whole,
    /// Each of its own.
    Bytes,
    /// At random, at most this many at once.
    Random(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Sends this, then waits for these answers.
    Say { bytes: Vec<u8>, cut: Cut, awaited: Vec<Awaited> },
    /// Waits until the answer to what is sent now has arrived, and leaves without reading it.
    SayAndLeave { bytes: Vec<u8>, awaited: Awaited },
    /// Sends this byte by byte, as far as anybody takes it, and waits for the server to close.
    HearTheEnd { bytes: &'static [u8] },
    /// Closes, with RST instead of FIN when `reset`.
    Leave { reset: bool },
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) acts: Vec<Act>,
    pub(super) intended: Tally,
    /// Of its scenes.
    pub(super) names: Vec<&'static str>,
}
