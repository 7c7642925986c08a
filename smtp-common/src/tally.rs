//! What is counted of sessions, messages and recipients: closed lists, and the key they are counted under.

use crate::{
    connection::{Account, Route},
    pod,
};

/// What became of a mail transaction.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum MessageOutcome {
    /// 2xx after the body.
    Accepted = 0,
    /// 4xx: the client is to try again (greylisting is this).
    Deferred = 1,
    /// 5xx.
    Rejected = 2,
    /// The connection ended between the go-ahead and the outcome.
    Unknown = 3,
}

impl MessageOutcome {
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Deferred, Self::Rejected, Self::Unknown];

    /// The `outcome` label of `smtp_messages_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it counts as failed for the failure brake.
    #[inline(always)]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Deferred | Self::Rejected)
    }
}

/// What a server answered to one RCPT.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum RecipientOutcome {
    Accepted = 0,
    Deferred = 1,
    Rejected = 2,
}

impl RecipientOutcome {
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Deferred, Self::Rejected];

    /// The `outcome` label of `smtp_recipients_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
        }
    }
}

/// What became of a connection that was let out. One of them ends each session; `Established` is counted beside them,
/// when the handshake is done.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SessionOutcome {
    Established = 0,
    /// Ended in good order.
    Closed = 1,
    /// Ended by a reset, from either side.
    Reset = 2,
    /// Never established: the server's host answered with a reset.
    Refused = 3,
    /// No answer: to the first packet, or later to data.
    TimedOut = 4,
    /// Never established: a router or a filter answered instead (ICMP), or the packet found no way out.
    Unreachable = 5,
    /// Never established: the client gave up before.
    Aborted = 6,
    /// Ended by the gate, because a limit was reached.
    Ended = 7,
}

impl SessionOutcome {
    pub const ALL: [Self; 8] = [
        Self::Established,
        Self::Closed,
        Self::Reset,
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Aborted,
        Self::Ended,
    ];

    /// The `outcome` label of `smtp_sessions_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
        }
    }

    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|o| *o as u8 == n)
    }
}

/// Why messages of a session are not all counted.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Unseen {
    /// TLS, from the first byte or after STARTTLS.
    Encrypted = 0,
    /// It was open before the gate stood: recipients and chunks before its first DATA were not seen.
    JoinedLate = 1,
    /// Something in it was not understood: only what follows a 354 was counted.
    Unclear = 2,
    /// The kernel had no memory for it.
    NoMemory = 3,
}

impl Unseen {
    pub const ALL: [Self; 4] = [Self::Encrypted, Self::JoinedLate, Self::Unclear, Self::NoMemory];

    /// The `cause` label of `smtp_sessions_unseen_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::JoinedLate => "joined_late",
            Self::Unclear => "unclear",
            Self::NoMemory => "no_memory",
        }
    }
}

/// What a limit counts besides connections.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Unit {
    Message = 0,
    Recipient = 1,
}

impl Unit {
    pub const ALL: [Self; 2] = [Self::Message, Self::Recipient];

    /// The `unit` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Recipient => "recipient",
        }
    }
}

/// Sums over sessions.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Sum {
    /// Payload octets to servers.
    BytesSent = 0,
    /// Payload octets from servers.
    BytesReceived = 1,
    /// Segments sent again.
    Retransmits = 2,
    /// Microseconds from connect() to the end.
    Micros = 3,
    /// Turns of the conversation: times the client spoke after the server had.
    Exchanges = 4,
}

impl Sum {
    pub const ALL: [Self; 5] = [Self::BytesSent, Self::BytesReceived, Self::Retransmits, Self::Micros, Self::Exchanges];
}

/// What a [`TallyKey`] counts; [`TallyKey::which`] is a number of the list named here.
pub mod family {
    /// [`super::SessionOutcome`]
    pub const SESSIONS: u8 = 0;
    /// [`super::MessageOutcome`]
    pub const MESSAGES: u8 = 1;
    /// [`super::RecipientOutcome`]
    pub const RECIPIENTS: u8 = 2;
    /// [`super::Unseen`]
    pub const UNSEEN: u8 = 3;
    /// [`super::Sum`]
    pub const SUMS: u8 = 4;
    /// [`crate::counter::Verdict`] of messages the client was to be let go ahead with.
    pub const MESSAGE_VERDICTS: u8 = 5;
    /// [`crate::counter::Verdict`] of recipients that were named.
    pub const RECIPIENT_VERDICTS: u8 = 6;

    /// All of them, with the length of the list each counts by.
    pub const ALL: [(u8, u8); 7] = [
        (SESSIONS, super::SessionOutcome::ALL.len() as u8),
        (MESSAGES, super::MessageOutcome::ALL.len() as u8),
        (RECIPIENTS, super::RecipientOutcome::ALL.len() as u8),
        (UNSEEN, super::Unseen::ALL.len() as u8),
        (SUMS, super::Sum::ALL.len() as u8),
        (MESSAGE_VERDICTS, crate::counter::Verdict::ALL.len() as u8),
        (RECIPIENT_VERDICTS, crate::counter::Verdict::ALL.len() as u8),
    ];
}

/// Key of one count. The value is a `u64` that only grows.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TallyKey {
    pub account: Account,
    /// A constant of [`family`].
    pub family: u8,
    pub which: u8,
    /// A [`Route`].
    pub route: u8,
    pub _pad: [u8; 5],
}

const _: () = assert!(size_of::<TallyKey>() == 24);
pod!(TallyKey);

impl TallyKey {
    #[inline(always)]
    pub const fn new(account: Account, family: u8, which: u8, route: Route) -> Self {
        Self { account, family, which, route: route as u8, _pad: [0; 5] }
    }
}
