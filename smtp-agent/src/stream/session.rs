//! The end of a session, or a message that could not pass, as it is shown.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use smtp_common::{
    connection::Route,
    counter::{Reason, Verdict},
    dialogue::mark,
    event::flag,
    session::{SessionEvent, seen},
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome, Unit},
};

use super::{date, endpoint, process::Process, word};
use crate::accounts::{container::unit_of_cgroup, label::printable_until_nul};

/// How many of what had which outcome.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Outcomes {
    pub accepted: u32,
    pub deferred: u32,
    pub rejected: u32,
    /// Of messages alone: the connection ended between the go-ahead and the outcome.
    #[serde(default)]
    pub unknown: u32,
}

/// What is common to both stories. All text is safe on a terminal.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Session {
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// When the connection was asked for; of one that was met in the middle, when it was met.
    pub since: String,
    pub account: String,
    pub destination: IpAddr,
    pub port: u16,
    pub route: String,
    pub uid: u32,
    pub gid: u32,
    pub tgid: u32,
    pub comm: String,
    pub container: bool,
    /// It was with the local MTA; `destination` is whom the client asked for.
    #[serde(default)]
    pub redirected: bool,
    pub messages: Outcomes,
    pub recipients: Outcomes,
    /// Payload octets each way, segments sent again, times the client spoke after the server had.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub retransmits: u32,
    pub exchanges: u32,
    /// Why not all of it was counted, or what the client did that it should not: closed list, see docs/metrics.md.
    pub notes: Vec<String>,
}

/// A session has ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct End {
    pub outcome: String,
    pub duration_seconds: f64,
    #[serde(flatten)]
    pub session: Session,
}

/// A message or recipient was refused, or would have been.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Stop {
    pub verdict: String,
    pub reason: String,
    pub unit: String,
    /// Whether the agent has ended the connection. Where it has not, the gate holds everything back that is sent.
    pub connection_ended: bool,
    pub exe: Option<String>,
    pub command: Option<Vec<String>>,
    pub unit_of_process: Option<String>,
    #[serde(flatten)]
    pub session: Session,
}

const NOTES: [(u32, &str); 8] = [
    (seen::ENCRYPTED, "encrypted"),
    (seen::UNCLEAR, "unclear"),
    (seen::JOINED_LATE, "joined_late"),
    (mark::HASTY << seen::MARKS, "hasty"),
    (mark::SMUGGLED << seen::MARKS, "smuggled"),
    (mark::FLOODED << seen::MARKS, "flooded"),
    (mark::UNOFFERED << seen::MARKS, "unoffered_chunk"),
    (mark::URGENT << seen::MARKS, "urgent"),
];

impl Session {
    fn tell(event: &SessionEvent, account: String, boot_now: u64, now: SystemTime) -> Self {
        let message = |outcome: MessageOutcome| event.messages[outcome as usize];
        let recipient = |outcome: RecipientOutcome| event.recipients[outcome as usize];
        Self {
            time: date(event.time, boot_now, now),
            since: date(event.since, boot_now, now),
            account,
            destination: event.destination.into(),
            port: event.port,
            route: word(Route::from_u8(event.route).map(Route::name)),
            uid: event.uid,
            gid: event.gid,
            tgid: event.tgid,
            comm: printable_until_nul(&event.comm),
            container: event.flags & flag::FOREIGN_NETNS != 0,
            redirected: event.flags & flag::REDIRECTED != 0,
            messages: Outcomes {
                accepted: message(MessageOutcome::Accepted),
                deferred: message(MessageOutcome::Deferred),
                rejected: message(MessageOutcome::Rejected),
                unknown: message(MessageOutcome::Unknown),
            },
            recipients: Outcomes {
                accepted: recipient(RecipientOutcome::Accepted),
                deferred: recipient(RecipientOutcome::Deferred),
                rejected: recipient(RecipientOutcome::Rejected),
                unknown: 0,
            },
            bytes_sent: event.bytes_sent,
            bytes_received: event.bytes_received,
            retransmits: event.retransmits,
            exchanges: event.exchanges,
            notes: NOTES.iter().filter(|(bit, _)| event.seen & bit != 0).map(|(_, note)| (*note).to_owned()).collect(),
        }
    }

    fn to(&self) -> String {
        endpoint(self.destination, self.port)
    }
}

impl End {
    pub fn tell(event: &SessionEvent, account: String, boot_now: u64, now: SystemTime) -> Self {
        Self {
            outcome: word(SessionOutcome::from_u8(event.outcome).map(SessionOutcome::name)),
            duration_seconds: Duration::from_nanos(event.time.saturating_sub(event.since)).as_secs_f64(),
            session: Session::tell(event, account, boot_now, now),
        }
    }
}

impl Stop {
    pub fn tell(
        event: &SessionEvent,
        account: String,
        process: Process,
        connection_ended: bool,
        boot_now: u64,
        now: SystemTime,
    ) -> Self {
        Self {
            verdict: word(Verdict::from_u8(event.verdict).map(Verdict::name)),
            reason: word(Reason::from_u8(event.reason).map(Reason::name)),
            unit: if event.unit == Unit::Message as u8 { Unit::Message.name() } else { Unit::Recipient.name() }
                .to_owned(),
            connection_ended,
            unit_of_process: process.cgroup.as_deref().and_then(unit_of_cgroup).map(str::to_owned),
            exe: process.exe,
            command: process.command,
            session: Session::tell(event, account, boot_now, now),
        }
    }
}

/// "3 accepted, 1 deferred", without what is zero.
impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.accepted, "accepted"),
            (self.deferred, "deferred"),
            (self.rejected, "rejected"),
            (self.unknown, "unknown"),
        ];
        let parts: Vec<_> = all.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(&if parts.is_empty() { "none".to_owned() } else { parts.join(", ") })
    }
}

/// One line, columns where those of a connection are.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = &self.session;
        write!(
            f,
            "{}  {:<14}  {:<16}  {:<13}  {:<6}  {:<24}  pid {:<8} messages: {}; recipients: {}; {:.1} s, {} bytes out, {} in",
            session.time,
            "session",
            session.account,
            self.outcome,
            session.route,
            session.to(),
            session.tgid,
            session.messages,
            session.recipients,
            self.duration_seconds,
            session.bytes_sent,
            session.bytes_received,
        )?;
        if session.notes.is_empty() { Ok(()) } else { write!(f, "  ({})", session.notes.join(", ")) }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = &self.session;
        write!(
            f,
            "{}  {:<14}  {:<16}  {:<13}  {:<6}  {:<24}  pid {:<8} {}  (a {}; before it in this session: {})",
            session.time,
            self.verdict,
            session.account,
            self.reason,
            session.route,
            session.to(),
            session.tgid,
            self.exe.as_deref().unwrap_or(&session.comm),
            self.unit,
            session.messages,
        )?;
        if self.verdict == Verdict::Refused.name() && !self.connection_ended {
            f.write_str("  (the connection is held, not ended)")?;
        }
        Ok(())
    }
}
