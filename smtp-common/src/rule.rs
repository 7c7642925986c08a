//! What the policy says, in the form the kernel reads.

use core::ops::Deref;

use crate::{
    connection::Account,
    level::{ByHand, Chain, path_hash},
    names::Tripped,
    pod,
    tally::Unit,
    window::{Both, Span, UNLIMITED},
};

/// Generations of policy that exist side by side: one in force, one being written.
pub const GENERATIONS: u32 = 2;

/// What a rule does. Values of [`Rule::action`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// No limits apply; counted, and charged to the host's budget.
    Exempt = 1,
    /// Refused everywhere, the local MTA included.
    Deny = 2,
    /// Limited by the numbers in the rule.
    Limited = 3,
    /// May submit to the local MTA but not connect out: `plan = "deny"`.
    Closed = 4,
}

/// Which line of the policy a rule came from. Values of [`Rule::origin`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Default = 0,
    AllowUser = 1,
    AllowGroup = 2,
    DenyUser = 3,
    RuleUser = 4,
    RuleGroup = 5,
    Containers = 6,
    KernelThreads = 7,
    RuleCgroup = 8,
    /// `smtp-agent allow` or `block`.
    ByHand = 9,
    /// A `[[rule]]` with a destination, a port or two subjects.
    Exception = 10,
}

/// What happens between the limit and the soft ceiling. Values of [`Rule::on_soft`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnSoft {
    /// ECONNREFUSED: a queueing client tries again later.
    Defer = 0,
    /// To the local MTA, which queues.
    Redirect = 1,
}

/// One limit with its soft band.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limit {
    /// Connections admitted in any stretch of the span; [`UNLIMITED`] for none.
    pub limit: u32,
    /// Further attempts per span that are put off instead of refused.
    pub band: u32,
}

const _: () = assert!(size_of::<Limit>() == 8);

impl Limit {
    pub const NONE: Self = Self { limit: UNLIMITED, band: 0 };

    /// A limit whose soft ceiling is `soft_percent` of it, rounded up: 100 at 125 % has a band of 25.
    pub const fn with_soft_percent(limit: u32, soft_percent: u32) -> Self {
        let over = soft_percent.saturating_sub(100) as u64;
        let band = (limit as u64 * over).div_ceil(100);
        Self { limit, band: if band > UNLIMITED as u64 - 1 { UNLIMITED - 1 } else { band as u32 } }
    }

    #[inline(always)]
    pub const fn is_set(&self) -> bool {
        self.limit != UNLIMITED
    }
}

/// Bits of [`Rule::flags`].
pub mod rule_flag {
    /// Submissions to the local MTA are held to the limits too.
    pub const LOCAL: u8 = 1;
    /// The plan says more than the rule has room for: its [`super::PlanLimits`] must be asked.
    pub const UNITS: u8 = 1 << 1;
    /// The plan has a failure brake.
    pub const BRAKE: u8 = 1 << 2;
    /// What it sends is not charged to the host's budget.
    pub const NOT_THE_HOSTS: u8 = 1 << 3;
}

/// [`Rule::plan`] where there is none.
pub const NO_PLAN: u16 = u16::MAX;

/// What applies to one account.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// An [`Action`].
    pub action: u8,
    /// An [`Origin`].
    pub origin: u8,
    /// An [`OnSoft`].
    pub on_soft: u8,
    /// Bits of [`rule_flag`].
    pub flags: u8,
    /// Index of the plan in the agent's list: for showing its name and for finding its [`PlanLimits`]; [`NO_PLAN`] when
    /// there is none.
    pub plan: u16,
    /// Number of the [`Chain`] of what its account shares with others; 0 for none.
    pub chain: u16,
    pub hour: Limit,
    pub day: Limit,
}

const _: () = assert!(size_of::<Rule>() == 24);
pod!(Rule);

impl Rule {
    #[inline(always)]
    pub const fn of(action: Action, origin: Origin) -> Self {
        Self {
            action: action as u8,
            origin: origin as u8,
            on_soft: OnSoft::Defer as u8,
            flags: 0,
            plan: NO_PLAN,
            chain: 0,
            hour: Limit::NONE,
            day: Limit::NONE,
        }
    }

    #[inline(always)]
    pub const fn limit(&self, span: Span) -> Limit {
        match span {
            Span::Hour => self.hour,
            Span::Day => self.day,
        }
    }
}

impl Rule {
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The limit an account under this rule is held to, if it is held to one.
    pub fn limit_in_force(&self, span: Span) -> Option<Limit> {
        Some(self.limit(span)).filter(|limit| self.action == Action::Limited as u8 && limit.is_set())
    }
}

/// [`PlanLimits::brake_seconds`] of a brake that is lifted by hand alone.
pub const BRAKE_STAYS: u32 = u32::MAX;

/// What a plan limits besides connections.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlanLimits {
    pub messages: Both,
    pub recipients: Both,
    /// The failure brake: the highest share of failed messages in an hour, in percent, and how many of them at least
    /// there must be before it is asked. [`UNLIMITED`] percent for no brake.
    pub max_failed_percent: u32,
    pub min_failed: u32,
    /// Seconds after which a tripped brake is lifted whatever the share is; 0 for when the share has fallen, and
    /// [`BRAKE_STAYS`] for only by hand.
    pub brake_seconds: u32,
    /// [`plan_hash`] of a plan with a brake, so that a tripped brake finds its plan again under whatever number; else 0.
    pub plan: u32,
}

const _: () = assert!(size_of::<PlanLimits>() == 32);
pod!(PlanLimits);

impl PlanLimits {
    pub const NONE: Self = Self {
        messages: Both::UNLIMITED,
        recipients: Both::UNLIMITED,
        max_failed_percent: UNLIMITED,
        min_failed: 0,
        brake_seconds: 0,
        plan: 0,
    };

    #[inline(always)]
    pub const fn of(&self, unit: Unit) -> Both {
        match unit {
            Unit::Message => self.messages,
            Unit::Recipient => self.recipients,
        }
    }

    /// Whether so many failed messages of so many are too many.
    #[inline(always)]
    pub const fn is_too_much(&self, failed: u64, of: u64) -> bool {
        self.max_failed_percent != UNLIMITED
            && failed >= self.min_failed as u64
            && failed * 100 > of * self.max_failed_percent as u64
    }

    /// Whether a brake that was tripped at a time ([`Tripped::at`]) still holds now, in nanoseconds of the boot clock.
    #[inline(always)]
    pub const fn holds(&self, tripped: u64, now: u64, failed: u64, of: u64) -> bool {
        if self.brake_seconds == BRAKE_STAYS {
            return tripped != 0 && self.max_failed_percent != UNLIMITED;
        }
        let lapsed = self.brake_seconds != 0 && Tripped::ago(tripped, now) >= self.brake_seconds as u64 * 1_000_000_000;
        tripped != 0 && !lapsed && self.is_too_much(failed, of)
    }
}

/// What a plan's name is in [`PlanLimits::plan`]: never 0.
pub const fn plan_hash(name: &str) -> u32 {
    let hash = path_hash(name.as_bytes());
    let folded = (hash >> 32) as u32 ^ hash as u32;
    if folded == 0 { 1 } else { folded }
}

/// Key of a plan's [`PlanLimits`] in one generation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlanKey {
    pub generation: u32,
    pub plan: u32,
}

const _: () = assert!(size_of::<PlanKey>() == 8);
pod!(PlanKey);

/// Key of an account's own rule in one generation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RuleKey {
    pub generation: u32,
    pub _pad: u32,
    pub account: Account,
}

const _: () = assert!(size_of::<RuleKey>() == 24);
pod!(RuleKey);

impl RuleKey {
    #[inline(always)]
    pub const fn new(generation: u32, account: Account) -> Self {
        Self { generation, _pad: 0, account }
    }
}

/// Data of a subordinate uid's key in the longest-prefix trie: generation and uid, both big-endian so
/// that a prefix is a prefix.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubuidKey {
    pub generation: u32,
    pub uid: u32,
}

const _: () = assert!(size_of::<SubuidKey>() == 8);
pod!(SubuidKey);

impl SubuidKey {
    /// Bits of a key that names one uid.
    pub const BITS: u32 = 64;

    #[inline(always)]
    pub const fn new(generation: u32, uid: u32) -> Self {
        Self { generation: generation.to_be(), uid: uid.to_be() }
    }
}

/// Everything of one generation that is not per account.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Counts reloads, from 1; 0 while nothing has been loaded.
    pub serial: u64,
    /// 1: verdicts are applied. 0: they are only counted.
    pub enforce: u32,
    /// 1: the host's budget refuses exempt accounts too.
    pub strict: u32,
    pub host_hour: u32,
    pub host_day: u32,
    /// Lowest and highest subordinate uid: uids outside need no look-up. Lowest above highest for none.
    pub subuid_first: u32,
    pub subuid_last: u32,
    /// Events per account and second that reach the ring buffer, for passed, deferred and refused attempts each.
    pub event_budget: u32,
    /// 1: sessions are followed and messages counted.
    pub sessions: u32,
    /// Which shapes of exceptions there are: bits, by number of [`crate::level::shape`].
    pub exceptions: u32,
    /// 1: there are rules for cgroups. 2: for those of the v1 hierarchy `name=systemd`, whose number is `hierarchy`.
    pub cgroups: u32,
    pub hierarchy: u32,
    /// 1: some plan redirects.
    pub redirects: u32,
    /// The host's budget of messages and recipients.
    pub host_messages: Both,
    pub host_recipients: Both,
    pub default: Rule,
    pub containers: Rule,
    pub kernel_threads: Rule,
}

const _: () = assert!(size_of::<Policy>() == 144);
pod!(Policy);

impl Policy {
    /// Lets everything pass uncounted: what stands before the first policy is written.
    pub const fn open() -> Self {
        let rule = Rule::of(Action::Limited, Origin::Default);
        Self {
            serial: 0,
            enforce: 0,
            strict: 0,
            host_hour: UNLIMITED,
            host_day: UNLIMITED,
            subuid_first: 1,
            subuid_last: 0,
            event_budget: 0,
            sessions: 0,
            exceptions: 0,
            cgroups: 0,
            hierarchy: 0,
            redirects: 0,
            host_messages: Both::UNLIMITED,
            host_recipients: Both::UNLIMITED,
            default: rule,
            containers: rule,
            kernel_threads: rule,
        }
    }

    #[inline(always)]
    pub const fn host_limit(&self, span: Span) -> u32 {
        match span {
            Span::Hour => self.host_hour,
            Span::Day => self.host_day,
        }
    }

    #[inline(always)]
    pub const fn host_units(&self, unit: Unit) -> Both {
        match unit {
            Unit::Message => self.host_messages,
            Unit::Recipient => self.host_recipients,
        }
    }
}

/// Where the rules of single accounts are found.
pub trait Rules {
    /// What is found, where it lies or by itself. In the kernel a reference: a copy of what may be missing is a value that
    /// may not have been set, and the verifier permits nobody to move one.
    type Ref<T: Copy + 'static>: Deref<Target = T>;

    /// A part of what was found.
    fn part<T: Copy, U: Copy>(whole: Self::Ref<T>, part: impl FnOnce(&T) -> &U) -> Self::Ref<U>;

    /// The rule of this very account in the generation in force, if it has one.
    fn rule(&self, account: Account) -> Option<Self::Ref<Rule>>;

    /// What a plan limits besides connections.
    fn plan(&self, plan: u16) -> Option<Self::Ref<PlanLimits>>;

    /// What was said of it by hand, lapsed or not.
    fn by_hand(&self, account: Account) -> Option<Self::Ref<ByHand>>;

    /// What a cgroup spends from, with others: by [`crate::connection::Attempt::cgroup`].
    fn chain_of(&self, cgroup: u64) -> Option<Self::Ref<Chain>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_brake_needs_a_sample_and_lets_go_by_itself_or_by_time() {
        let plan = PlanLimits { max_failed_percent: 50, min_failed: 5, brake_seconds: 600, ..PlanLimits::NONE };
        assert!(!plan.is_too_much(4, 4), "too few to tell");
        assert!(!plan.is_too_much(5, 10), "the share itself is still permitted");
        assert!(plan.is_too_much(6, 11));
        assert!(!PlanLimits::NONE.is_too_much(1000, 1000));
        let (tripped, second) = (7, 1_000_000_000);
        assert!(plan.holds(tripped, 599 * second, 6, 11));
        assert!(!plan.holds(tripped, 601 * second, 6, 11), "lapsed");
        assert!(!plan.holds(tripped, second, 5, 10), "the share has fallen");
        assert!(!plan.holds(0, second, 6, 11), "never tripped");
        let stays = PlanLimits { brake_seconds: BRAKE_STAYS, ..plan };
        assert!(stays.holds(tripped, u64::MAX, 0, 0) && !stays.holds(0, second, 6, 11));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_brake_lapses_on_time_whichever_boot_tripped_it(
            seconds in 1..BRAKE_STAYS, up in 1..1u64 << 60, ago in 0..1u64 << 62, early in 1..1u64 << 62,
        ) {
            let plan = PlanLimits { max_failed_percent: 50, min_failed: 5, brake_seconds: seconds, ..PlanLimits::NONE };
            let length = seconds as u64 * 1_000_000_000;
            let tripped = Tripped::at(up, ago);
            prop_assert_ne!(tripped, 0);
            // What is no time at all is put a nanosecond later.
            let moved = (tripped == 1 && ago == up) as u64;
            for after in [0, length.saturating_sub(ago + 1), length.saturating_sub(ago) + moved, length] {
                let holds = plan.holds(tripped, up + after, 6, 11);
                prop_assert_eq!(holds, ago + after < length + moved, "{} after {}", after, ago);
            }
            prop_assert!(plan.holds((up + early).max(1), up, 6, 11), "a clock that is behind frees nobody");
            let stays = PlanLimits { brake_seconds: BRAKE_STAYS, ..plan };
            prop_assert!(stays.holds(tripped, up, 0, 0));
        }
    }

    #[test]
    fn plans_have_different_hashes_and_none_has_that_of_no_plan() {
        let names = ["standard", "bulk", "php", "a", "b", ""];
        let mut hashes = names.map(plan_hash).to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        assert!(hashes.len() == names.len() && !hashes.contains(&0));
    }

    #[test]
    fn a_soft_band_rounds_up_and_never_overflows() {
        assert_eq!(Limit::with_soft_percent(100, 125), Limit { limit: 100, band: 25 });
        assert_eq!(Limit::with_soft_percent(1, 125).band, 1);
        assert_eq!(Limit::with_soft_percent(0, 125).band, 0);
        assert_eq!(Limit::with_soft_percent(100, 100).band, 0);
        assert_eq!(Limit::with_soft_percent(100, 90).band, 0);
        assert!(Limit::with_soft_percent(u32::MAX - 1, u32::MAX).band < u32::MAX);
    }
}
