//! What a plan is: limits, the soft band, the brake, times at which other limits hold.

use std::time::Duration;

pub use smtp_common::rule::OnSoft;

use super::schedule::Schedule;

pub(super) const MAX_LIMIT: u32 = 1_000_000_000;
pub(super) const DEFAULT_SOFT_PERCENT: u32 = 125;
pub(super) const DEFAULT_MIN_FAILED: u32 = 5;
/// More schedules than a week has shifts.
pub(super) const MAX_SCHEDULES: usize = 32;
pub(super) const STANDARD: &str = "standard";
pub(super) const LONGEST_RELEASE: Duration = Duration::from_secs(30 * 86_400);

/// What a `plan = "…"` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanRef {
    /// Only the local MTA may be reached.
    Deny,
    /// No limits.
    Allow,
    /// Index into [`Config::plans`].
    Plan(usize),
}

/// How much of one unit may pass; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quota {
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
}

impl Quota {
    /// These limits, and those of `other` where there is none.
    fn or(self, other: Self) -> Self {
        Self { per_hour: self.per_hour.or(other.per_hour), per_day: self.per_day.or(other.per_day) }
    }

    /// These limits without those that `other` has as well.
    fn unlike(self, other: Self) -> Self {
        let unless = |limit: Option<u32>, same| limit.filter(|_| limit != same);
        Self { per_hour: unless(self.per_hour, other.per_hour), per_day: unless(self.per_day, other.per_day) }
    }
}

/// How much of each unit may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quotas {
    pub connections: Quota,
    pub messages: Quota,
    pub recipients: Quota,
}

impl Quotas {
    /// There is a limit.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// These limits, and those of `other` where there is none.
    pub fn or(self, other: Self) -> Self {
        Self {
            connections: self.connections.or(other.connections),
            messages: self.messages.or(other.messages),
            recipients: self.recipients.or(other.recipients),
        }
    }

    /// These limits without those that `other` has as well.
    pub(super) fn unlike(self, other: Self) -> Self {
        Self {
            connections: self.connections.unlike(other.connections),
            messages: self.messages.unlike(other.messages),
            recipients: self.recipients.unlike(other.recipients),
        }
    }

    /// Hour and day of connections, messages and recipients.
    pub(super) fn in_order(self) -> [Option<u32>; 6] {
        let Self { connections: c, messages: m, recipients: r } = self;
        [c.per_hour, c.per_day, m.per_hour, m.per_day, r.per_hour, r.per_day]
    }
}

/// When too many of an account's messages fail, it sends no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The highest share of failed messages in an hour that is permitted.
    pub max_failed_percent: u32,
    /// How many must have failed before the share says anything.
    pub min_failed: u32,
    pub release: Release,
}

/// When a brake that was tripped lets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Once the share has fallen.
    #[default]
    WhenFallen,
    /// After this time at the latest.
    After(Duration),
    /// Only by hand.
    Never,
}

/// `[plan.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    pub connections: Quota,
    pub messages: Quota,
    pub recipients: Quota,
    /// Above the limit and up to this share of it attempts are put off, beyond they are refused.
    pub soft_percent: u32,
    pub on_soft: OnSoft,
    pub brake: Option<Brake>,
    /// Submissions to the local MTA are limited too.
    pub local: bool,
    /// The limits of all who have the plan together.
    pub total: Quotas,
    /// The first that holds puts its limits in the place of the plan's.
    pub schedules: Vec<Schedule>,
    /// The plan that a rule changed by limits of its own to make this one. Who has this one has that one's total.
    pub base: Option<usize>,
}

impl Plan {
    /// What holds while no schedule does.
    pub fn quotas(&self) -> Quotas {
        Quotas { connections: self.connections, messages: self.messages, recipients: self.recipients }
    }

    /// What holds at a minute of a day of the week, 0 for Monday. A limit that the schedule leaves out is the plan's.
    pub fn quotas_at(&self, weekday: u8, minute: u16) -> Quotas {
        let schedule = self.schedules.iter().find(|schedule| schedule.holds(weekday, minute));
        schedule.map_or(Quotas::default(), |schedule| schedule.quotas).or(self.quotas())
    }

    /// A plan that holds nobody back.
    pub(super) fn unlimited(name: &str) -> Self {
        Self { name: name.to_owned(), connections: Quota::default(), ..Self::standard() }
    }

    /// What "standard" means where no file defines it.
    pub(super) fn standard() -> Self {
        Self {
            name: STANDARD.to_owned(),
            connections: Quota { per_hour: Some(100), per_day: Some(1000) },
            messages: Quota::default(),
            recipients: Quota::default(),
            soft_percent: DEFAULT_SOFT_PERCENT,
            on_soft: OnSoft::Defer,
            brake: None,
            local: false,
            total: Quotas::default(),
            schedules: Vec::new(),
            base: None,
        }
    }
}
