//! Limits: what is written, and what of it says something else than it seems.

use super::{
    place::{Place, Spot},
    plan::{Quota, Quotas},
    problem::{Problem, Problems},
    reader::{Reader, Section},
    sections::LIMITS,
};

/// Replaces what an earlier file set, if this one sets anything.
pub(super) fn set<T>(target: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *target = value;
    }
}

pub(super) fn value<T>(spot: Option<Spot<T>>) -> Option<T> {
    spot.map(|spot| spot.value)
}

/// What is limited, in the order of [`LIMITS`], which has an hour and a day of each.
const UNITS: [&str; 3] = ["connection", "message", "recipient"];
/// Where the limits begin that hold only where messages are followed.
const MESSAGES: usize = 2;

/// Everything that one table limits, in the order of [`LIMITS`].
#[derive(Default)]
pub(super) struct Limits {
    limits: [Option<Spot<u32>>; LIMITS.len()],
    /// A limit is written, though it may be wrong or misspelled.
    pub(super) written: bool,
}

impl Limits {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        self.written |= section.has_unknown;
        for (key, limit) in LIMITS.into_iter().zip(&mut self.limits) {
            let entry = section.get(key);
            self.written |= entry.is_some();
            set(limit, reader.limit(entry));
        }
    }

    pub(super) fn of(reader: &mut Reader<'_>, section: &Section<'_>) -> Self {
        let mut limits = Self::default();
        limits.read(reader, section);
        limits
    }

    pub(super) fn quotas(&self) -> Quotas {
        let [connections, messages, recipients] = self.pairs().map(|pair| {
            let [per_hour, per_day] = pair.each_ref().map(|limit| limit.as_ref().map(|limit| limit.value));
            Quota { per_hour, per_day }
        });
        Quotas { connections, messages, recipients }
    }

    /// Hour and day of each unit.
    fn pairs(&self) -> [&[Option<Spot<u32>>; 2]; 3] {
        let (pairs, _) = self.limits.as_chunks::<2>();
        [&pairs[0], &pairs[1], &pairs[2]]
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &Spot<u32>)> {
        LIMITS.into_iter().zip(&self.limits).filter_map(|(key, limit)| Some((key, limit.as_ref()?)))
    }

    /// Limits that say something else than they seem to. `piped`: executions of sendmail are limited too, which are
    /// messages without recipients to the kernel.
    pub(super) fn check(&self, piped: bool, problems: &mut Problems) {
        for (n, unit) in UNITS.into_iter().enumerate() {
            let [per_hour, per_day] = [LIMITS[2 * n], LIMITS[2 * n + 1]];
            let [hour, day] = self.pairs()[n];
            for (key, limit) in [(per_hour, hour), (per_day, day)] {
                if let Some(Spot { value: 0, at }) = limit {
                    let problem = Problem::warning(format!("`{key} = 0` refuses every {unit}"));
                    problems.push(problem.at(at.clone()).hint("for no limit leave the key out"));
                }
            }
            if let (Some(hour), Some(day)) = (hour, day)
                && (1..hour.value).contains(&day.value)
            {
                let message = format!("`{per_hour}` is never reached: `{per_day}` is {}", day.value);
                problems.push(Problem::warning(message).at(hour.at.clone()));
            }
        }
        if piped {
            return;
        }
        let [_, messages, recipients] = self.pairs();
        for n in 0..2 {
            if let (Some(messages), Some(Spot { value: recipients, .. })) = (&messages[n], &recipients[n])
                && (1..messages.value).contains(recipients)
            {
                let [key, other] = [LIMITS[2 + n], LIMITS[4 + n]];
                let message =
                    format!("`{key}` is never reached: `{other}` is {recipients}, and every message has a recipient");
                problems.push(Problem::warning(message).at(messages.at.clone()));
            }
        }
    }

    /// An hour above the day of the plan whose other limits hold beside these.
    pub(super) fn check_beside(&self, plan: &str, quotas: Quotas, problems: &mut Problems) {
        let days = [quotas.connections, quotas.messages, quotas.recipients].map(|quota| quota.per_day);
        for (n, ([hour, day], of_plan)) in self.pairs().into_iter().zip(days).enumerate() {
            if let (Some(hour), None, Some(of_plan)) = (hour, day, of_plan)
                && (1..hour.value).contains(&of_plan)
            {
                let [per_hour, per_day] = [LIMITS[2 * n], LIMITS[2 * n + 1]];
                let message = format!("`{per_hour}` is never reached: `{per_day}` of plan `{plan}` is {of_plan}");
                problems.push(Problem::warning(message).at(hour.at.clone()));
            }
        }
    }

    /// A limit of all that is below the limit of each.
    pub(super) fn check_total(&self, one: &Self, problems: &mut Problems) {
        for (key, (total, one)) in LIMITS.into_iter().zip(self.limits.iter().zip(&one.limits)) {
            if let (Some(total), Some(one)) = (total, one)
                && (1..one.value).contains(&total.value)
            {
                let message = format!(
                    "`{key}` of one account is never reached: it is {} {}, and all together may {}",
                    one.value,
                    one.at.seen_from(&total.at),
                    total.value
                );
                problems.push(Problem::warning(message).at(total.at.clone()).hint("a total is for the whole plan"));
            }
        }
    }

    /// The limits that hold only where messages are followed.
    pub(super) fn of_messages(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        self.each().filter(|(key, _)| LIMITS[MESSAGES..].contains(key)).map(|(key, limit)| (key, &limit.at))
    }
}
