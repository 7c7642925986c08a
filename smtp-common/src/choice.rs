//! Which rule an attempt meets.

use core::ops::Deref;

use crate::{
    connection::{Account, Attempt, kind},
    level::{chain_flag, holds},
    rule::{Action, Origin, Policy, Rule, Rules, rule_flag},
};

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
    use crate::{
        connection::Route,
        level::{ByHand, Chain},
        rule::PlanLimits,
    };
    use std::boxed::Box;

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
