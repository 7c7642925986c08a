//! What the policy says, in the form the kernel reads.

use core::ops::Deref;

use crate::{
    connection::{Account, Attempt, kind},
    level::{ByHand, Chain, chain_flag, holds},
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
    pub _pad: u32,
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
        _pad: 0,
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

    /// Whether a brake that was tripped at a time still holds now (both nanoseconds of the boot clock).
    #[inline(always)]
    pub const fn holds(&self, tripped: u64, now: u64, failed: u64, of: u64) -> bool {
        if self.brake_seconds == BRAKE_STAYS {
            return tripped != 0 && self.max_failed_percent != UNLIMITED;
        }
        let lapsed =
            self.brake_seconds != 0 && now.saturating_sub(tripped) >= self.brake_seconds as u64 * 1_000_000_000;
        tripped != 0 && !lapsed && self.is_too_much(failed, of)
    }
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

    /// What a cgroup spends from, with others: by [`Attempt::cgroup`].
    fn chain_of(&self, cgroup: u64) -> Option<Self::Ref<Chain>>;
}

/// A rule as it holds for one attempt: what it does may be other than what it says.
#[derive(Clone, Copy)]
pub struct Ruling<'a> {
    /// Looked at where it lies: its fields one by one would take more of the kernel's stack than there is.
    rule: &'a Rule,
    /// An [`Action`].
    pub action: u8,
    /// An [`Origin`].
    pub origin: u8,
    /// Bits of [`rule_flag`].
    pub flags: u8,
    /// As [`Rule::chain`].
    pub chain: u16,
}

impl Ruling<'_> {
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Deref for Ruling<'_> {
    type Target = Rule;

    #[inline(always)]
    fn deref(&self) -> &Rule {
        self.rule
    }
}

impl<'a> From<&'a Rule> for Ruling<'a> {
    #[inline(always)]
    fn from(rule: &'a Rule) -> Self {
        Self { rule, action: rule.action, origin: rule.origin, flags: rule.flags, chain: rule.chain }
    }
}

/// Where the rule lies that an attempt meets.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Default = 0,
    /// The account's own.
    Own = 1,
    /// That of its cgroup.
    Cgroup = 2,
    Containers = 3,
    KernelThreads = 4,
}

/// Which rule an attempt meets, in one register: where it lies, and what it does instead of what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice(pub u32);

impl Choice {
    const ACTION: u32 = 8;
    const ORIGIN: u32 = 16;
    /// The account has a rule that gives it no plan: what it shares, and whether it is the host's, is taken from there.
    const SHARES_ITS_OWN: u32 = 1 << 24;

    #[inline(always)]
    const fn of(place: Place) -> Self {
        Self(place as u32)
    }

    /// With this action instead, from this line.
    #[inline(always)]
    const fn with(self, action: u8, origin: Origin) -> Self {
        Self(self.0 | (action as u32) << Self::ACTION | (origin as u32) << Self::ORIGIN)
    }

    /// The rule that was chosen. One that has gone meanwhile is the default's.
    #[inline(always)]
    pub fn rule<R: Rules>(self, policy: R::Ref<Policy>, rules: &R, attempt: &Attempt) -> R::Ref<Rule> {
        let place = self.0 & 0xff;
        if place == Place::Own as u32
            && let Some(rule) = rules.rule(attempt.account)
        {
            return rule;
        }
        if place == Place::Cgroup as u32
            && let Some(chain) = rules.chain_of(attempt.cgroup)
        {
            return R::part(chain, |chain| &chain.base);
        }
        if place == Place::Containers as u32 {
            R::part(policy, |policy| &policy.containers)
        } else if place == Place::KernelThreads as u32 {
            R::part(policy, |policy| &policy.kernel_threads)
        } else {
            R::part(policy, |policy| &policy.default)
        }
    }

    /// That rule as it holds.
    #[inline(always)]
    pub fn ruling<'a, R: Rules>(self, rule: &'a Rule, rules: &R, attempt: &Attempt) -> Ruling<'a> {
        let mut ruling: Ruling<'a> = rule.into();
        if self.0 & Self::SHARES_ITS_OWN != 0
            && let Some(own) = rules.rule(attempt.account)
        {
            ruling.chain = own.chain;
            ruling.flags |= own.flags & rule_flag::NOT_THE_HOSTS;
        }
        let action = (self.0 >> Self::ACTION) as u8;
        if action != 0 {
            ruling.action = action;
            ruling.origin = (self.0 >> Self::ORIGIN) as u8;
        }
        ruling
    }
}

/// Which rule an attempt meets at `now` (nanoseconds of the boot clock): what was said by hand; else its account's own
/// rule, else that of its cgroup, else the one for its kind of account. An exception takes the place of what limits an
/// account, and of nothing else.
///
/// Names belong to the host. A container's account is never a name in `[allow]`; the host's own user who
/// only stepped into another network namespace stays denied when `[deny]` names him.
///
/// Choosing is apart from having, because the kernel's stack has no room for both at once.
#[inline(always)]
pub fn choose<R: Rules>(rules: &R, attempt: &Attempt, now: u64) -> Choice {
    if let Some(said) = rules.by_hand(attempt.account)
        && holds(said.until, now)
    {
        return by_hand(said.blocked != 0);
    }
    if attempt.account.is_container()
        && let Some(uid) = attempt.host_uid
        && let Some(denied) = denied_by_name(rules, Account::user(uid), now)
    {
        return denied;
    }
    let chain = if attempt.cgroup != 0 { rules.chain_of(attempt.cgroup) } else { None };
    let flags = match &chain {
        Some(chain) if chain.has(chain_flag::ALLOWED | chain_flag::BLOCKED) && holds(chain.until, now) => {
            return by_hand(chain.has(chain_flag::BLOCKED));
        }
        Some(chain) => chain.flags,
        None => 0,
    };
    let kind = attempt.account.kind;
    let mut more = 0;
    if kind == kind::USER
        && let Some(own) = rules.rule(attempt.account)
    {
        let settled = own.action == Action::Exempt as u8 || own.action == Action::Deny as u8;
        if settled {
            return Choice::of(Place::Own);
        }
        // One that only says what it shares leaves the plan to the cgroup.
        if own.origin != Origin::Default as u8 || flags & chain_flag::BASE == 0 {
            return restricted(Choice::of(Place::Own), attempt, flags);
        }
        more = Choice::SHARES_ITS_OWN;
    }
    let place = if kind == kind::KERNEL {
        Place::KernelThreads
    } else if flags & chain_flag::BASE != 0 {
        Place::Cgroup
    } else if kind == kind::USER {
        Place::Default
    } else {
        Place::Containers
    };
    restricted(Choice(Choice::of(place).0 | more), attempt, flags)
}

#[inline(always)]
const fn by_hand(blocked: bool) -> Choice {
    let action = if blocked { Action::Deny } else { Action::Exempt };
    Choice::of(Place::Default).with(action as u8, Origin::ByHand)
}

/// What takes the place of a limit.
#[inline(always)]
const fn restricted(choice: Choice, attempt: &Attempt, flags: u32) -> Choice {
    if attempt.exception != 0 {
        choice.with(attempt.exception, Origin::Exception)
    } else if flags & chain_flag::CLOSED != 0 {
        choice.with(Action::Closed as u8, Origin::RuleCgroup)
    } else {
        choice
    }
}

/// [`choose`], and the rule itself.
pub fn select<R: Rules>(policy: R::Ref<Policy>, rules: &R, attempt: &Attempt, now: u64) -> Rule {
    let choice = choose(rules, attempt, now);
    let rule = choice.rule(policy, rules, attempt);
    let Ruling { action, origin, flags, chain, .. } = choice.ruling(&rule, rules, attempt);
    Rule { action, origin, flags, chain, ..*rule }
}

/// The rule against the host's own user behind a connection from another network namespace.
#[inline(always)]
fn denied_by_name<R: Rules>(rules: &R, user: Account, now: u64) -> Option<Choice> {
    if let Some(said) = rules.by_hand(user)
        && said.blocked != 0
        && holds(said.until, now)
    {
        return Some(by_hand(true));
    }
    match rules.rule(user) {
        Some(rule) if rule.action == Action::Deny as u8 => {
            Some(Choice::of(Place::Default).with(Action::Deny as u8, Origin::DenyUser))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Route;
    use std::boxed::Box;

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

    #[test]
    fn a_soft_band_rounds_up_and_never_overflows() {
        assert_eq!(Limit::with_soft_percent(100, 125), Limit { limit: 100, band: 25 });
        assert_eq!(Limit::with_soft_percent(1, 125).band, 1);
        assert_eq!(Limit::with_soft_percent(0, 125).band, 0);
        assert_eq!(Limit::with_soft_percent(100, 100).band, 0);
        assert_eq!(Limit::with_soft_percent(100, 90).band, 0);
        assert!(Limit::with_soft_percent(u32::MAX - 1, u32::MAX).band < u32::MAX);
    }

    struct Table(&'static [(Account, Rule)], &'static [(Account, ByHand)], Option<Chain>);

    impl Rules for Table {
        type Ref<T: Copy + 'static> = Box<T>;

        fn part<T: Copy, U: Copy>(whole: Box<T>, part: impl FnOnce(&T) -> &U) -> Box<U> {
            Box::new(*part(&whole))
        }

        fn rule(&self, account: Account) -> Option<Box<Rule>> {
            self.0.iter().find(|(a, _)| *a == account).map(|(_, rule)| Box::new(*rule))
        }

        fn plan(&self, _: u16) -> Option<Box<PlanLimits>> {
            None
        }

        fn by_hand(&self, account: Account) -> Option<Box<ByHand>> {
            self.1.iter().find(|(a, _)| *a == account).map(|(_, said)| Box::new(*said))
        }

        fn chain_of(&self, _: u64) -> Option<Box<Chain>> {
            self.2.map(Box::new)
        }
    }

    const ROOT_EXEMPT: (Account, Rule) = (Account::user(0), Rule::of(Action::Exempt, Origin::AllowUser));
    const NOBODY_DENIED: (Account, Rule) = (Account::user(65534), Rule::of(Action::Deny, Origin::DenyUser));
    const SHOP_LIMITED: (Account, Rule) = (Account::user(1000), Rule::of(Action::Limited, Origin::RuleUser));
    const NAMED: &[(Account, Rule)] = &[ROOT_EXEMPT, NOBODY_DENIED, SHOP_LIMITED];

    fn selected(table: &Table, account: Account, host_uid: Option<u32>, exception: u8) -> Rule {
        let policy = Policy {
            containers: Rule::of(Action::Limited, Origin::Containers),
            kernel_threads: Rule::of(Action::Limited, Origin::KernelThreads),
            ..Policy::open()
        };
        let cgroup = if table.2.is_some() { 7 } else { 0 };
        let attempt = Attempt { account, route: Route::Remote, host_uid, cgroup, exception };
        select(Box::new(policy), table, &attempt, 100)
    }

    fn origin(account: Account, host_uid: Option<u32>) -> Origin {
        origin_of(selected(&Table(NAMED, &[], None), account, host_uid, 0))
    }

    fn origin_of(rule: Rule) -> Origin {
        let all = [
            Origin::Default,
            Origin::AllowUser,
            Origin::DenyUser,
            Origin::RuleUser,
            Origin::Containers,
            Origin::KernelThreads,
            Origin::RuleCgroup,
            Origin::ByHand,
            Origin::Exception,
        ];
        all.into_iter().find(|origin| *origin as u8 == rule.origin).unwrap()
    }

    const CONTAINER: Account = Account::new(kind::NETNS, 7);

    #[test]
    fn names_belong_to_the_host() {
        assert_eq!(origin(Account::user(0), None), Origin::AllowUser);
        assert_eq!(origin(Account::user(1001), None), Origin::Default);
        assert_eq!(origin(Account::KERNEL, None), Origin::KernelThreads);
        assert_eq!(origin(CONTAINER, None), Origin::Containers);
        assert_eq!(origin(CONTAINER, Some(0)), Origin::Containers, "never exempt by name");
        assert_eq!(origin(CONTAINER, Some(65534)), Origin::DenyUser, "a denied host user stays denied");
    }

    #[test]
    fn a_rule_for_a_cgroup_holds_for_those_without_one_of_their_own() {
        let base = Rule::of(Action::Limited, Origin::RuleCgroup);
        let chain = Chain { flags: chain_flag::BASE, base, ..Chain::NONE };
        let origin = |account| origin_of(selected(&Table(NAMED, &[], Some(chain)), account, None, 0));
        assert_eq!(origin(Account::user(1001)), Origin::RuleCgroup);
        assert_eq!(origin(CONTAINER), Origin::RuleCgroup);
        assert_eq!(origin(Account::user(1000)), Origin::RuleUser);
        assert_eq!(origin(Account::user(0)), Origin::AllowUser);
        let closed = Chain { flags: chain_flag::CLOSED, ..Chain::NONE };
        let action = |account| selected(&Table(NAMED, &[], Some(closed)), account, None, 0).action;
        assert_eq!(action(Account::user(1000)), Action::Closed as u8, "the stricter of two holds");
        assert_eq!(action(Account::user(0)), Action::Exempt as u8);
        assert_eq!(action(Account::user(65534)), Action::Deny as u8);
    }

    #[test]
    fn an_exception_replaces_limits_and_neither_exemption_nor_denial() {
        let table = Table(NAMED, &[], None);
        for action in [Action::Exempt, Action::Deny, Action::Closed] {
            let rule = selected(&table, Account::user(1000), None, action as u8);
            assert_eq!((rule.action, origin_of(rule)), (action as u8, Origin::Exception));
            assert_eq!(origin_of(selected(&table, Account::user(0), None, action as u8)), Origin::AllowUser);
            assert_eq!(origin_of(selected(&table, Account::user(65534), None, action as u8)), Origin::DenyUser);
        }
    }

    #[test]
    fn what_is_said_by_hand_comes_before_everything_until_it_lapses() {
        const SAID: &[(Account, ByHand)] = &[
            (Account::user(0), ByHand { until: 0, blocked: 1, _pad: 0 }),
            (Account::user(65534), ByHand { until: 101, blocked: 0, _pad: 0 }),
            (Account::user(1000), ByHand { until: 100, blocked: 1, _pad: 0 }),
        ];
        let table = Table(NAMED, SAID, None);
        let got = |account, host_uid| selected(&table, account, host_uid, 0);
        assert_eq!(got(Account::user(0), None).action, Action::Deny as u8);
        assert_eq!(got(Account::user(65534), None).action, Action::Exempt as u8);
        assert_eq!(origin_of(got(Account::user(1000), None)), Origin::RuleUser, "lapsed");
        assert_eq!(got(CONTAINER, Some(0)).action, Action::Deny as u8, "blocked in other namespaces too");
        assert_eq!(got(CONTAINER, Some(65534)).action, Action::Deny as u8, "and allowed in none");
        for (flag, action) in [(chain_flag::ALLOWED, Action::Exempt), (chain_flag::BLOCKED, Action::Deny)] {
            let table = |until| Table(NAMED, &[], Some(Chain { flags: flag, until, ..Chain::NONE }));
            assert_eq!(selected(&table(101), CONTAINER, None, 0).action, action as u8);
            assert_eq!(origin_of(selected(&table(100), CONTAINER, None, 0)), Origin::Containers, "lapsed");
        }
    }
}
