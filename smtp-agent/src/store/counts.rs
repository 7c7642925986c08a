//! The columns of every roll-up: what became of attempts, sessions, messages and recipients.

use std::ops::AddAssign;

use smtp_common::{
    connection::Route,
    counter::Verdict,
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome},
};

use super::record::{Attempt, SessionEnd, what};

/// How many columns a roll-up has.
pub const COLUMNS: usize = 20;

/// The column of a verdict is its number; these come after them.
pub mod column {
    /// A limit was used up, of connections, messages or recipients.
    pub const OVER_LIMIT: usize = 8;
    /// Attempts that passed on the way to the local MTA.
    pub const SUBMITTED: usize = 9;
    pub const SESSIONS_CLOSED: usize = 10;
    pub const SESSIONS_FAILED: usize = 11;
    /// By the gate.
    pub const SESSIONS_ENDED: usize = 12;
    /// Accepted, deferred, rejected, unknown.
    pub const MESSAGES: usize = 13;
    /// Accepted, deferred, rejected.
    pub const RECIPIENTS: usize = 17;
}

/// One line of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts(pub [i64; COLUMNS]);

impl Counts {
    /// As it lies in a table: for each column that is not 0 its number and the count, seven bits an octet.
    pub fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(16);
        for (column, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            packed.push(column as u8);
            let mut left = *count as u64;
            while left > 0x7f {
                packed.push(left as u8 | 0x80);
                left >>= 7;
            }
            packed.push(left as u8);
        }
        packed
    }

    /// Adds what lies in a table. Columns of a later version are passed over.
    pub fn add_packed(&mut self, packed: &[u8]) {
        let mut octets = packed.iter();
        while let Some(column) = octets.next() {
            let (mut count, mut shift) = (0u64, 0);
            for octet in octets.by_ref() {
                count |= u64::from(octet & 0x7f).checked_shl(shift).unwrap_or(0);
                shift += 7;
                if octet & 0x80 == 0 {
                    break;
                }
            }
            if let Some(sum) = self.0.get_mut(*column as usize) {
                *sum = sum.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, n)| *sum = sum.saturating_add(n));
    }
}

fn session_column(outcome: SessionOutcome) -> Option<usize> {
    Some(match outcome {
        // Counted beside the end of the session.
        SessionOutcome::Established => return None,
        SessionOutcome::Closed => column::SESSIONS_CLOSED,
        SessionOutcome::Ended => column::SESSIONS_ENDED,
        SessionOutcome::Reset
        | SessionOutcome::Refused
        | SessionOutcome::TimedOut
        | SessionOutcome::Unreachable
        | SessionOutcome::Aborted => column::SESSIONS_FAILED,
    })
}

/// Whether a connection with this verdict was let through.
pub fn is_passed(verdict: u8) -> bool {
    Verdict::from_u8(verdict).is_some_and(|verdict| !verdict.is_applied())
}

/// The column of what a counter of the kernel counts, if there is one.
pub fn column_of(what: u8, which: u8) -> Option<usize> {
    let number = which as usize;
    match what {
        what::CONNECTIONS => Some(number),
        what::SESSIONS => SessionOutcome::from_u8(which).and_then(session_column),
        what::MESSAGES if number < MessageOutcome::ALL.len() => Some(column::MESSAGES + number),
        what::RECIPIENTS if number < RecipientOutcome::ALL.len() => Some(column::RECIPIENTS + number),
        _ => None,
    }
}

impl Counts {
    pub fn of_attempt(attempt: &Attempt) -> Self {
        let mut counts = Self::default();
        if attempt.unit.is_none() {
            counts.0[attempt.verdict as usize] = 1;
            let passed = !attempt.verdict.is_applied();
            counts.0[column::SUBMITTED] = (passed && attempt.target.route != Route::Remote) as i64;
        }
        counts.0[column::OVER_LIMIT] = attempt.is_over_limit() as i64;
        counts
    }

    pub fn of_session(end: &SessionEnd) -> Self {
        let mut counts = Self::default();
        if let Some(column) = session_column(end.outcome) {
            counts.0[column] = 1;
        }
        for (sum, n) in counts.0[column::MESSAGES..].iter_mut().zip(end.messages) {
            *sum = n.into();
        }
        for (sum, n) in counts.0[column::RECIPIENTS..].iter_mut().zip(end.recipients) {
            *sum = n.into();
        }
        counts
    }

    /// Adds what a counter of the kernel has grown by.
    pub fn add_counter(&mut self, of: u8, route: u8, which: u8, n: i64) {
        let is_submitted = of == what::CONNECTIONS && is_passed(which) && route != Route::Remote as u8;
        for column in column_of(of, which).into_iter().chain(is_submitted.then_some(column::SUBMITTED)) {
            if let Some(sum) = self.0.get_mut(column) {
                *sum = sum.saturating_add(n);
            }
        }
    }

    /// Of each column the larger: of two that may both miss something of the same.
    pub fn or_more(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(one, other)| *one = other.max(*one));
        self
    }

    fn sum(&self, columns: std::ops::Range<usize>) -> i64 {
        self.0[columns].iter().sum()
    }

    pub fn verdict(&self, verdict: Verdict) -> i64 {
        self.0[verdict as usize]
    }

    pub fn attempts(&self) -> i64 {
        self.sum(0..Verdict::ALL.len())
    }

    /// Stopped, or in observe mode let through although enforce would not have.
    pub fn stopped(&self) -> i64 {
        Verdict::ALL.into_iter().filter(|verdict| verdict.is_stop()).map(|verdict| self.verdict(verdict)).sum()
    }

    /// Everything that is not exempt: what an account took, or tried to take, of what is limited.
    pub fn spent(&self) -> i64 {
        self.attempts() - self.verdict(Verdict::Exempt)
    }

    pub fn over_limit(&self) -> i64 {
        self.0[column::OVER_LIMIT]
    }

    pub fn submitted(&self) -> i64 {
        self.0[column::SUBMITTED]
    }

    pub fn sessions(&self) -> i64 {
        self.sum(column::SESSIONS_CLOSED..column::MESSAGES)
    }

    pub fn sessions_failed(&self) -> i64 {
        self.0[column::SESSIONS_FAILED]
    }

    /// Accepted, deferred, rejected, unknown.
    pub fn messages(&self) -> [i64; 4] {
        std::array::from_fn(|which| self.0[column::MESSAGES + which])
    }

    /// Accepted, deferred, rejected.
    pub fn recipients(&self) -> [i64; 3] {
        std::array::from_fn(|which| self.0[column::RECIPIENTS + which])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_are_found_again_in_what_is_kept_of_them(counts: [u32; COLUMNS], large in 0..i64::MAX, at in 0..COLUMNS) {
            let mut counts = Counts(counts.map(|n| if n % 3 == 0 { 0 } else { n.into() }));
            counts.0[at] = large;
            let mut found = Counts::default();
            found.add_packed(&counts.packed());
            prop_assert_eq!(found, counts);
        }

        #[test]
        fn rot_is_no_panic(bytes: Vec<u8>) {
            Counts::default().add_packed(&bytes);
        }
    }
}
