//! What the agent's metrics say of conversations, in the shape the witnesses keep their books.

use crate::{
    Agent, Metrics, poll,
    tally::{Outcomes, Tally},
};
use std::time::Duration;

/// A client's end, and with it that of its session, may come a little after the sink's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends of sessions in `smtp_sessions_total`.
pub const ENDS: [&str; 7] = ["closed", "reset", "refused", "timed_out", "unreachable", "aborted", "ended"];

impl Metrics {
    /// What conversations of an account have come to, on every route.
    pub fn tally_of(&self, user: &str) -> Tally {
        let outcome = |name, outcome| self.value(name, &[("user", user), ("outcome", outcome)]) as u64;
        let outcomes =
            |name| Outcomes::of(outcome(name, "accepted"), outcome(name, "deferred"), outcome(name, "rejected"));
        Tally {
            sessions: ENDS.iter().map(|end| outcome("smtp_sessions_total", end)).sum(),
            encrypted: self.value("smtp_sessions_unseen_total", &[("user", user), ("cause", "encrypted")]) as u64,
            messages: outcomes("smtp_messages_total"),
            recipients: outcomes("smtp_recipients_total"),
            unknown: outcome("smtp_messages_total", "unknown"),
        }
    }

    /// Messages or recipients of an account with one verdict.
    pub fn units(&self, user: &str, unit: &str, verdict: &str) -> u64 {
        let labels = [("user", user), ("unit", unit), ("verdict", verdict)];
        self.value("smtp_message_verdicts_total", &labels) as u64
    }

    /// Sessions of an account with one outcome.
    pub fn sessions(&self, user: &str, outcome: &str) -> u64 {
        self.value("smtp_sessions_total", &[("user", user), ("outcome", outcome)]) as u64
    }

    /// Sessions of an account of which not all is counted, by cause.
    pub fn unseen(&self, user: &str, cause: &str) -> u64 {
        self.value("smtp_sessions_unseen_total", &[("user", user), ("cause", cause)]) as u64
    }
}

impl Agent {
    /// What the conversations of a uid without a name have come to.
    #[track_caller]
    pub fn tally_of(&self, uid: u32) -> Tally {
        self.metrics().tally_of(&uid.to_string())
    }

    /// The same once so many sessions have ended; what they have come to otherwise is for the test to say.
    #[track_caller]
    pub fn tally_after(&self, uid: u32, sessions: u64) -> Tally {
        poll::holds_within(PATIENCE, || self.tally_of(uid).sessions >= sessions);
        self.tally_of(uid)
    }
}
