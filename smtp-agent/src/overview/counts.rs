//! Counts of sessions, messages and recipients, each of its closed list present.

use std::collections::BTreeMap;

use serde::Serialize;
use smtp_common::{
    counter::Verdict,
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome, TallyKey, Unit, Unseen, family},
};

use crate::metrics::VERDICTS;

pub type Counts = BTreeMap<&'static str, u64>;

#[derive(Debug, Clone, Serialize)]
pub struct Conversations {
    /// Messages, recipients and sessions by outcome.
    pub messages: Counts,
    pub recipients: Counts,
    pub sessions: Counts,
    /// Sessions whose messages are not all counted, by cause.
    pub unseen: Counts,
    /// What was judged before it could pass, by unit and verdict.
    pub message_verdicts: BTreeMap<&'static str, Counts>,
}

impl Default for Conversations {
    fn default() -> Self {
        let verdicts = || zeros(VERDICTS.map(Verdict::name));
        Self {
            messages: zeros(MessageOutcome::ALL.map(MessageOutcome::name)),
            recipients: zeros(RecipientOutcome::ALL.map(RecipientOutcome::name)),
            sessions: zeros(SessionOutcome::ALL.map(SessionOutcome::name)),
            unseen: zeros(Unseen::ALL.map(Unseen::name)),
            message_verdicts: Unit::ALL.map(|unit| (unit.name(), verdicts())).into(),
        }
    }
}

fn zeros(names: impl IntoIterator<Item = &'static str>) -> Counts {
    names.into_iter().map(|name| (name, 0)).collect()
}

impl Conversations {
    /// Adds one count of the kernel's. Sums over sessions (bytes and the like) are for graphs.
    pub fn add(&mut self, key: &TallyKey, count: u64) {
        let which = key.which as usize;
        let verdict = || Verdict::from_u8(key.which).map(Verdict::name);
        let (list, name) = match key.family {
            family::SESSIONS => (Some(&mut self.sessions), SessionOutcome::ALL.get(which).map(|o| o.name())),
            family::MESSAGES => (Some(&mut self.messages), MessageOutcome::ALL.get(which).map(|o| o.name())),
            family::RECIPIENTS => (Some(&mut self.recipients), RecipientOutcome::ALL.get(which).map(|o| o.name())),
            family::UNSEEN => (Some(&mut self.unseen), Unseen::ALL.get(which).map(|o| o.name())),
            family::MESSAGE_VERDICTS => (self.message_verdicts.get_mut(Unit::Message.name()), verdict()),
            family::RECIPIENT_VERDICTS => (self.message_verdicts.get_mut(Unit::Recipient.name()), verdict()),
            _ => (None, None),
        };
        if let (Some(list), Some(name)) = (list, name) {
            *list.entry(name).or_default() += count;
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        let lists = [
            (&mut self.messages, &other.messages),
            (&mut self.recipients, &other.recipients),
            (&mut self.sessions, &other.sessions),
            (&mut self.unseen, &other.unseen),
        ];
        for (own, others) in lists {
            others.iter().for_each(|(name, count)| *own.entry(name).or_default() += count);
        }
        for (unit, others) in &other.message_verdicts {
            let own = self.message_verdicts.entry(unit).or_default();
            others.iter().for_each(|(verdict, count)| *own.entry(verdict).or_default() += count);
        }
    }

    /// Messages or recipients that were stopped, or in observe mode would have been, by verdict.
    pub fn stops(&self, unit: Unit) -> Counts {
        let verdicts = &self.message_verdicts[unit.name()];
        let stops = [Verdict::Refused, Verdict::WouldRefuse].map(Verdict::name).into_iter();
        stops.filter_map(|verdict| Some((verdict, *verdicts.get(verdict)?))).collect()
    }

    /// All of them.
    pub fn stopped(&self, unit: Unit) -> u64 {
        self.stops(unit).values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::{
        connection::{Account, Route},
        tally::Sum,
    };

    #[test]
    fn counts_go_where_they_belong_and_the_lists_stay_closed() {
        let mut all = Conversations::default();
        let mut add = |family, which, n| all.add(&TallyKey::new(Account::user(7), family, which, Route::Remote), n);
        add(family::MESSAGES, MessageOutcome::Rejected as u8, 2);
        add(family::MESSAGES, MessageOutcome::Rejected as u8, 3);
        add(family::RECIPIENTS, RecipientOutcome::Deferred as u8, 4);
        add(family::SESSIONS, SessionOutcome::Ended as u8, 5);
        add(family::UNSEEN, Unseen::Encrypted as u8, 6);
        add(family::MESSAGE_VERDICTS, Verdict::Refused as u8, 7);
        add(family::MESSAGE_VERDICTS, Verdict::Allowed as u8, 70);
        add(family::RECIPIENT_VERDICTS, Verdict::WouldRefuse as u8, 8);
        add(family::SUMS, Sum::BytesSent as u8, 9);
        add(family::MESSAGES, 77, 10);
        assert_eq!((all.messages["rejected"], all.messages["accepted"], all.messages.len()), (5, 0, 4));
        assert_eq!((all.recipients["deferred"], all.sessions["ended"], all.unseen["encrypted"]), (4, 5, 6));
        assert_eq!((all.stopped(Unit::Message), all.stopped(Unit::Recipient)), (7, 8));
        assert_eq!(all.message_verdicts["message"]["allowed"], 70);
        let mut twice = all.clone();
        twice.merge(&all);
        assert_eq!((twice.messages["rejected"], twice.recipients["deferred"], twice.sessions["ended"]), (10, 8, 10));
        assert_eq!(
            (twice.unseen["encrypted"], twice.stopped(Unit::Message), twice.stopped(Unit::Recipient)),
            (12, 14, 16)
        );
    }
}
