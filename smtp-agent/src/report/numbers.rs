//! The numbers of a line, by name.

use serde::Serialize;
use smtp_common::counter::Verdict;

use crate::store::{Counts, counts::column};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Numbers {
    pub attempts: i64,
    pub allowed: i64,
    pub exempt: i64,
    /// The next six together.
    pub stopped: i64,
    pub deferred: i64,
    pub redirected: i64,
    pub refused: i64,
    pub would_defer: i64,
    pub would_redirect: i64,
    pub would_refuse: i64,
    /// Attempts, messages and recipients for which a limit was used up, as far as events tell.
    pub over_limit: i64,
    /// Attempts that went to the local MTA.
    pub submitted: i64,
    pub sessions: Sessions,
    pub messages: Outcomes,
    pub recipients: Outcomes,
}

/// Sessions that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sessions {
    /// In good order.
    pub closed: i64,
    /// Reset, timed out, or never established.
    pub failed: i64,
    /// By the gate.
    pub ended: i64,
}

/// What servers answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Outcomes {
    pub accepted: i64,
    pub deferred: i64,
    pub rejected: i64,
    /// Of messages alone: the connection ended before the answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl From<Counts> for Numbers {
    fn from(counts: Counts) -> Self {
        let of = |verdict| counts.verdict(verdict);
        let [accepted, deferred, rejected, unknown] = counts.messages();
        let messages = Outcomes { accepted, deferred, rejected, unknown };
        let [accepted, deferred, rejected] = counts.recipients();
        Self {
            attempts: counts.attempts(),
            allowed: of(Verdict::Allowed),
            exempt: of(Verdict::Exempt),
            stopped: counts.stopped(),
            deferred: of(Verdict::Deferred),
            redirected: of(Verdict::Redirected),
            refused: of(Verdict::Refused),
            would_defer: of(Verdict::WouldDefer),
            would_redirect: of(Verdict::WouldRedirect),
            would_refuse: of(Verdict::WouldRefuse),
            over_limit: counts.over_limit(),
            submitted: counts.submitted(),
            sessions: Sessions {
                closed: counts.0[column::SESSIONS_CLOSED],
                failed: counts.sessions_failed(),
                ended: counts.0[column::SESSIONS_ENDED],
            },
            messages,
            recipients: Outcomes { accepted, deferred, rejected, unknown: 0 },
        }
    }
}

impl Sessions {
    pub fn all(&self) -> i64 {
        self.closed + self.failed + self.ended
    }
}

impl Numbers {
    /// What a table of a report has: attempts, allowed, exempt, stopped, over the limit, failed sessions, messages that were
    /// accepted, deferred and rejected, and recipients.
    pub fn columns(&self) -> [i64; 10] {
        let Outcomes { accepted, deferred, rejected, .. } = self.recipients;
        [
            self.attempts,
            self.allowed,
            self.exempt,
            self.stopped,
            self.over_limit,
            self.sessions.failed,
            self.messages.accepted,
            self.messages.deferred,
            self.messages.rejected,
            accepted + deferred + rejected,
        ]
    }

    /// "12 deferred, 3 refused": what stopping was, without what is zero.
    pub fn how_stopped(&self) -> String {
        let all = [
            (self.deferred, "deferred"),
            (self.redirected, "redirected"),
            (self.refused, "refused"),
            (self.would_defer, "would be deferred"),
            (self.would_redirect, "would be redirected"),
            (self.would_refuse, "would be refused"),
        ];
        listed(&all)
    }
}

impl Outcomes {
    pub fn listed(&self) -> String {
        let all = [
            (self.accepted, "accepted"),
            (self.deferred, "deferred"),
            (self.rejected, "rejected"),
            (self.unknown, "without an answer"),
        ];
        listed(&all)
    }
}

/// Without what is zero; "none" where all is.
fn listed(all: &[(i64, &str)]) -> String {
    let parts: Vec<_> = all.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// "1,234,567"
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::from(if n < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(n), shown);
        }
        assert_eq!(grouped(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn what_is_zero_is_not_listed() {
        assert_eq!(
            Outcomes { accepted: 3, rejected: 1_200, ..Outcomes::default() }.listed(),
            "3 accepted, 1,200 rejected"
        );
        assert_eq!(Numbers::default().how_stopped(), "none");
    }
}
