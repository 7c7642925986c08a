//! Sessions, messages and recipients, from the kernel's tallies.

use std::collections::HashMap;

use prometheus::Registry;
use smtp_common::{
    connection::Route,
    counter::Verdict,
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome, Sum, TallyKey, Unit, Unseen, family},
};

use super::{
    families::{Result, counters, float_counters},
    named::Named,
};
use crate::accounts::label::OTHER;

/// Verdicts on messages and recipients: there is no soft band in the middle of a conversation.
pub const VERDICTS: [Verdict; 4] = [Verdict::Allowed, Verdict::Exempt, Verdict::Refused, Verdict::WouldRefuse];

/// Routes that have sessions.
const ROUTES: [Route; 2] = [Route::Local, Route::Remote];

/// The counts of one family, by label and route: as many as its list is long.
///
/// An account's counts of a route are there together from the first of them on, those that are 0 included: one that
/// shows up with its first count would hide that count from rate(). For `other` they always are.
struct Sums<'a> {
    of: HashMap<(&'a str, u8), Vec<u64>>,
}

impl<'a> Sums<'a> {
    fn of(family: u8, length: usize, tallies: &[(TallyKey, u64)], names: &'a Named) -> Self {
        let mut of: HashMap<_, Vec<u64>> = HashMap::new();
        for route in ROUTES {
            of.insert((OTHER, route as u8), vec![0; length]);
        }
        // The kernel's own tallies of `other` are made for every route, the one without sessions included.
        let met = |route| ROUTES.iter().any(|r| *r as u8 == route);
        let counted = tallies.iter().filter(|(key, count)| key.family == family && (*count > 0 || met(key.route)));
        for (key, count) in counted {
            let counts = of.entry((names.label(key.account), key.route)).or_insert_with(|| vec![0; length]);
            if let Some(sum) = counts.get_mut(key.which as usize) {
                *sum += count;
            }
        }
        Self { of }
    }

    /// Label, route and counts.
    fn rows(&self) -> impl Iterator<Item = (&'a str, &'static str, &[u64])> {
        self.of.iter().map(|(&(label, route), counts)| {
            (label, Route::from_u8(route).map_or("unknown", Route::name), counts.as_slice())
        })
    }
}

pub(super) fn families(registry: &Registry, tallies: &[(TallyKey, u64)], names: &Named) -> Result<()> {
    let all = Tallied { registry, tallies, names };
    all.listed(
        "smtp_sessions_total",
        "SMTP sessions, by account, route and outcome: established is counted when the handshake is done, each of the others ends a session.",
        family::SESSIONS,
        "outcome",
        &SessionOutcome::ALL.map(|outcome| (outcome as u8, outcome.name())),
    )?;
    all.listed(
        "smtp_messages_total",
        "Messages whose outcome was read in the conversation, by account, route and outcome.",
        family::MESSAGES,
        "outcome",
        &MessageOutcome::ALL.map(|outcome| (outcome as u8, outcome.name())),
    )?;
    all.listed(
        "smtp_recipients_total",
        "Recipients that a server answered for, by account, route and outcome.",
        family::RECIPIENTS,
        "outcome",
        &RecipientOutcome::ALL.map(|outcome| (outcome as u8, outcome.name())),
    )?;
    all.listed(
        "smtp_sessions_unseen_total",
        "Sessions whose messages are not all counted, by account, route and cause.",
        family::UNSEEN,
        "cause",
        &Unseen::ALL.map(|cause| (cause as u8, cause.name())),
    )?;
    all.verdicts()?;
    all.sums()
}

struct Tallied<'a> {
    registry: &'a Registry,
    tallies: &'a [(TallyKey, u64)],
    names: &'a Named,
}

impl<'a> Tallied<'a> {
    fn sums_of(&self, family: u8, length: usize) -> Sums<'a> {
        Sums::of(family, length, self.tallies, self.names)
    }

    /// A family whose last label is a closed list: number in the tallies and name.
    fn listed(&self, name: &str, help: &str, family: u8, label: &str, list: &[(u8, &str)]) -> Result<()> {
        let counters = counters(self.registry, name, help, &["user", "route", label])?;
        for (user, route, counts) in self.sums_of(family, list.len()).rows() {
            for &(which, value) in list {
                counters.with_label_values(&[user, route, value]).inc_by(counts[which as usize]);
            }
        }
        Ok(())
    }

    fn verdicts(&self) -> Result<()> {
        let counters = counters(
            self.registry,
            "smtp_message_verdicts_total",
            "Messages and recipients that were judged before they could pass, by account, route, unit and verdict.",
            &["user", "route", "unit", "verdict"],
        )?;
        for (unit, family) in [(Unit::Message, family::MESSAGE_VERDICTS), (Unit::Recipient, family::RECIPIENT_VERDICTS)]
        {
            for (user, route, counts) in self.sums_of(family, Verdict::ALL.len()).rows() {
                for verdict in VERDICTS {
                    let labels = [user, route, unit.name(), verdict.name()];
                    counters.with_label_values(&labels).inc_by(counts[verdict as usize]);
                }
            }
        }
        Ok(())
    }

    fn sums(&self) -> Result<()> {
        let by_route = &["user", "route"];
        let bytes = counters(
            self.registry,
            "smtp_session_bytes_total",
            "Payload of ended SMTP sessions in bytes, by account, route and direction.",
            &["user", "route", "direction"],
        )?;
        let retransmits = counters(
            self.registry,
            "smtp_session_retransmits_total",
            "Segments that were sent again in SMTP sessions that have ended.",
            by_route,
        )?;
        let exchanges = counters(
            self.registry,
            "smtp_session_exchanges_total",
            "Times the client spoke after the server had, in SMTP sessions that have ended.",
            by_route,
        )?;
        let duration = float_counters(
            self.registry,
            "smtp_session_duration_seconds_total",
            "Seconds from connect() to the end of SMTP sessions that have ended.",
            by_route,
        )?;
        for (user, route, counts) in self.sums_of(family::SUMS, Sum::ALL.len()).rows() {
            let of = |sum: Sum| counts[sum as usize];
            for (direction, sum) in [("sent", Sum::BytesSent), ("received", Sum::BytesReceived)] {
                bytes.with_label_values(&[user, route, direction]).inc_by(of(sum));
            }
            retransmits.with_label_values(&[user, route]).inc_by(of(Sum::Retransmits));
            exchanges.with_label_values(&[user, route]).inc_by(of(Sum::Exchanges));
            duration.with_label_values(&[user, route]).inc_by(of(Sum::Micros) as f64 / 1e6);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
