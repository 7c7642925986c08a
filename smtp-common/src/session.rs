//! One connection from its connect() to its end: who made it, how far its bytes were read, and what it said.

use crate::{
    automaton::{STRETCH, Stretch},
    connection::{Account, Address, Attempt, Port, Route},
    dialogue::Dialogue,
    pod,
};

/// What lies beside a socket (`BPF_MAP_TYPE_SK_STORAGE`). Fresh storage is zeroed, which is a session that nothing is
/// known of.
#[repr(C)]
pub struct Session {
    /// Nanoseconds of the boot clock: connect(), or the first packet of one that joined late. 0: not filled in yet.
    pub since: u64,
    pub account: Account,
    pub netns: u64,
    pub cgroup: u64,
    /// As [`Attempt::cgroup`].
    pub matched: u64,
    pub _pad: u32,
    /// As [`Attempt::exception`]: what held at the connect() holds to the session's end.
    pub exception: u32,
    pub destination: Address,
    pub uid: u32,
    pub gid: u32,
    pub tgid: u32,
    /// The host's own user behind it, as [`Attempt::host_uid`]; [`NO_UID`] for none.
    pub host_uid: u32,
    pub port: Port,
    /// Bits of [`crate::event::flag`].
    pub flags: u16,
    /// A [`Route`].
    pub route: u8,
    /// Bits of [`stage`].
    pub stage: u8,
    /// A [`crate::counter::Reason`], where a message or recipient could not pass (or would not).
    pub reason: u8,
    /// A [`crate::tally::Unit`]: what was used up.
    pub unit: u8,
    pub comm: [u8; 16],
    /// Payload octets each way, not counting what was sent twice.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Sequence numbers that come next (RFC 9293, 3.4).
    pub next_sent: u32,
    pub next_received: u32,
    /// Times the client spoke after the server had.
    pub exchanges: u32,
    /// 1 while the server spoke last.
    pub server_spoke: u32,
    /// 1 while a processor reads what has arrived.
    pub reading: u32,
    /// Payloads sent again.
    pub retransmits: u32,
    /// What was counted, for the story of the session.
    pub messages: [u32; 4],
    pub recipients: [u32; 3],
    /// A [`crate::counter::Verdict`] of a message or recipient that is still to be told of; 0 for none.
    pub untold: u16,
    /// 1 once the gate has ended it: nothing passes any more. Not a bit of `stage`, which both directions change: neither may
    /// undo this.
    pub stopped: u16,
    /// Times the server asked for a body.
    pub go_aheads: u32,
    pub source_port: u32,
    /// The client's own end, once it must be told.
    pub source: Address,
    pub dialogue: Dialogue,
    /// Room for a stretch of what leaves: the kernel's stack has none.
    pub stretch: Stretch,
}

const _: () = assert!(size_of::<Session>() == 208 + size_of::<Dialogue>() + STRETCH);

/// No user of the host.
pub const NO_UID: u32 = u32::MAX;

/// How far a session is. Bits of [`Session::stage`].
pub mod stage {
    /// The first sequence number from either side is known.
    pub const SENDING: u8 = 1;
    pub const RECEIVING: u8 = 1 << 1;
    pub const ESTABLISHED: u8 = 1 << 2;
    /// Its end was counted.
    pub const OVER: u8 = 1 << 4;
    /// Met in the middle, by a packet.
    pub const JOINED_LATE: u8 = 1 << 5;
    /// Each side has said that it will send no more.
    pub const CLIENT_DONE: u8 = 1 << 6;
    pub const SERVER_DONE: u8 = 1 << 7;
}

impl Session {
    #[inline(always)]
    pub fn route(&self) -> Route {
        if self.route == Route::Local as u8 { Route::Local } else { Route::Remote }
    }

    #[inline(always)]
    pub fn attempt(&self) -> Attempt {
        let host_uid = if self.host_uid == NO_UID { None } else { Some(self.host_uid) };
        Attempt {
            account: self.account,
            route: self.route(),
            host_uid,
            cgroup: self.matched,
            exception: self.exception as u8,
        }
    }
}

/// Where new bytes lie in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// From this offset of its payload to the end.
    New(u32),
    /// All of it was seen before.
    Old,
    /// Something before it is missing.
    Ahead,
}

/// What is new in a payload of `len` octets at sequence number `seq`, where `next` is expected.
#[inline(always)]
pub const fn part(seq: u32, len: u32, next: u32) -> Part {
    let seen = next.wrapping_sub(seq) as i32;
    if seen < 0 {
        Part::Ahead
    } else if seen as u32 >= len {
        Part::Old
    } else {
        Part::New(seen as u32)
    }
}

/// What the ring buffer of sessions carries: the end of one, or that the gate has ended one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionEvent {
    /// Nanoseconds of the boot clock, now and at the connect().
    pub time: u64,
    pub since: u64,
    pub account: Account,
    pub netns: u64,
    pub cgroup: u64,
    /// `bpf_get_socket_cookie`.
    pub cookie: u64,
    pub destination: Address,
    /// Only of a [`what::STOP`].
    pub source: Address,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub uid: u32,
    pub gid: u32,
    pub tgid: u32,
    pub exchanges: u32,
    pub retransmits: u32,
    pub messages: [u32; 4],
    pub recipients: [u32; 3],
    pub port: Port,
    pub source_port: Port,
    /// Bits of [`crate::event::flag`].
    pub flags: u16,
    /// A [`Route`].
    pub route: u8,
    /// One of [`what`].
    pub what: u8,
    /// A [`crate::tally::SessionOutcome`], for one that ended.
    pub outcome: u8,
    /// A [`crate::counter::Reason`] and a [`crate::tally::Unit`], for one that the gate ended.
    pub reason: u8,
    pub unit: u8,
    /// A [`crate::counter::Verdict`], for a [`what::STOP`].
    pub verdict: u8,
    /// Bits of [`seen`].
    pub seen: u32,
    pub _pad: u32,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<SessionEvent>() == 192);
pod!(SessionEvent);

/// Values of [`SessionEvent::what`].
pub mod what {
    pub const END: u8 = 1;
    /// A message or a recipient was refused (or would be): the agent is to end the connection.
    pub const STOP: u8 = 2;
}

/// Bits of [`SessionEvent::seen`].
pub mod seen {
    pub const ENCRYPTED: u32 = 1;
    pub const UNCLEAR: u32 = 1 << 1;
    pub const JOINED_LATE: u32 = 1 << 2;
    /// The marks of [`crate::dialogue::mark`] from here on.
    pub const MARKS: u32 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_read_twice_and_a_gap_is_told() {
        assert_eq!(part(100, 10, 100), Part::New(0));
        assert_eq!(part(95, 10, 100), Part::New(5));
        assert_eq!(part(90, 10, 100), Part::Old);
        assert_eq!(part(101, 10, 100), Part::Ahead);
        assert_eq!(part(u32::MAX - 4, 10, 2), Part::New(7), "numbers wrap");
        assert_eq!(part(2, 10, u32::MAX - 4), Part::Ahead);
    }
}
