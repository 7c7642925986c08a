//! Names become uids, plans become limits, and every account gets the one rule that holds for it.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use smtp_common::{
    connection::{Account, kind},
    level::{ByHand, LINKS, Level, plan_scope},
    rule::{Action, Origin, PlanLimits, Policy, Rule, rule_flag},
};

use super::{
    cgroups::CgroupRules,
    exceptions::{self, Exception},
    ledger::Ledger,
    limits::{Moment, all_plan_limits, both, purse, rule},
};
use crate::{
    accounts::{
        database::Database,
        subuid::{self, Prefix},
    },
    config::{Config, Mode, Name, OnSoft, Pattern, Plan, PlanRef, Problem, Problems, Spot, Subject},
};

/// A policy ready for the kernel.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub policy: Policy,
    pub ports: Vec<u16>,
    pub rules: Vec<(Account, Rule)>,
    /// What each plan limits besides connections, by the plan's number; then the brake of each.
    pub plans: Vec<PlanLimits>,
    /// What accounts share. Cgroups add to it as they are found.
    pub ledger: Ledger,
    pub cgroups: CgroupRules,
    pub exceptions: Vec<Exception>,
    /// What was said by hand of accounts.
    pub by_hand: Vec<(Account, ByHand)>,
    /// Programs whose executions are submissions to the local MTA, as written: they need not exist.
    pub sendmail: Vec<PathBuf>,
    pub subuids: Vec<Prefix>,
    /// What did not stop the policy but its author should know.
    pub warnings: Problems,
    /// Names in the configuration that this host does not have, each with its place.
    pub absent: Problems,
    /// The same in short: "user `exim`".
    pub absent_names: Vec<String>,
}

/// What holds besides the configuration: the time, and what was said by hand.
#[derive(Debug, Clone)]
pub struct Circumstances {
    pub moment: Moment,
    pub said: Vec<Said>,
}

impl Default for Circumstances {
    fn default() -> Self {
        Self { moment: Moment::MONDAY, said: Vec::new() }
    }
}

/// One thing that was said by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub whom: Whom,
    pub blocked: bool,
    /// Nanoseconds of the boot clock at which it lapses; 0 for never.
    pub until: u64,
}

/// Of whom it was said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whom {
    User(Name),
    /// Every member.
    Group(Name),
    /// A container, once it is known.
    Account(Account),
    Cgroup(Pattern),
}

/// Which of two rules for the same account holds: the one that names him beats the one that names a group of
/// his, refusing beats permitting, and among equals the earlier line.
fn rank(rule: &Rule) -> u8 {
    match rule.origin {
        o if o == Origin::DenyUser as u8 => 0,
        o if o == Origin::AllowUser as u8 => 1,
        o if o == Origin::RuleUser as u8 => 2,
        o if o == Origin::AllowGroup as u8 => 3,
        _ => 4,
    }
}

pub(super) struct Compiler<'a> {
    config: &'a Config,
    users: &'a Database,
    moment: Moment,
    rules: HashMap<Account, Rule>,
    ledger: Ledger,
    /// Purses of the plans that have a total, by the plan's number.
    totals: HashMap<usize, u32>,
    warnings: Problems,
    absent: Problems,
    absent_names: Vec<String>,
}

/// Compiles a configuration for the users of a host; `subuid` is the text of its /etc/subuid.
pub fn compile(config: &Config, users: &Database, subuid: &str, now: &Circumstances) -> Compiled {
    let mut compiler = Compiler {
        config,
        users,
        moment: now.moment,
        rules: HashMap::new(),
        ledger: Ledger::default(),
        totals: HashMap::new(),
        warnings: Problems::default(),
        absent: Problems::default(),
        absent_names: Vec::new(),
    };
    compiler.totals();
    compiler.run();
    compiler.groups();
    let (exceptions, marks) = exceptions::compile(&mut compiler);
    let cgroups = compiler.cgroups(marks, &now.said);
    let by_hand = by_hand(users, &now.said);
    let default = compiler.rule(config.default_plan, Origin::Default);
    let containers = compiler.rule(config.containers_plan, Origin::Containers);
    let kernel_threads = compiler.rule(config.default_plan, Origin::KernelThreads);
    let Compiler { rules, ledger, mut warnings, absent, mut absent_names, .. } = compiler;
    // A list manager is usually in [allow] as well.
    let mut seen = HashSet::new();
    absent_names.retain(|name| seen.insert(name.clone()));

    let (subuids, broken) = subuid::parse(subuid, users);
    broken.into_iter().for_each(|message| warnings.push(Problem::warning(message)));
    let first = subuids.iter().map(|p| p.first).min();
    let last = subuids.iter().map(|p| p.first | u32::MAX.checked_shr(p.bits).unwrap_or(0)).max();

    let policy = Policy {
        serial: 0,
        enforce: (config.mode == Mode::Enforce) as u32,
        strict: config.host.strict as u32,
        host_hour: both(config.host.connections).hour,
        host_day: both(config.host.connections).day,
        subuid_first: first.unwrap_or(1),
        subuid_last: last.unwrap_or(0),
        event_budget: config.events.per_second,
        sessions: config.messages as u32,
        exceptions: exceptions::shapes(&exceptions),
        // Whoever knows the hierarchies adds to it.
        cgroups: !cgroups.is_empty() as u32,
        hierarchy: 0,
        redirects: config.plans.iter().any(|plan| plan.on_soft == OnSoft::Redirect) as u32,
        host_messages: both(config.host.messages),
        host_recipients: both(config.host.recipients),
        default,
        containers,
        kernel_threads,
    };
    let mut rules: Vec<_> = rules.into_iter().collect();
    rules.sort_by_key(|(account, _)| *account);
    Compiled {
        policy,
        ports: config.ports.clone(),
        rules,
        plans: all_plan_limits(config, now.moment),
        ledger,
        cgroups,
        exceptions,
        by_hand,
        sendmail: config.sendmail.clone(),
        subuids,
        warnings,
        absent,
        absent_names,
    }
}

/// What was said of accounts. Who is named himself is not meant as a member of a group; of two for the same the later
/// holds.
pub fn by_hand(users: &Database, said: &[Said]) -> Vec<(Account, ByHand)> {
    let mut all: HashMap<Account, ByHand> = HashMap::new();
    let hand = |said: &Said| ByHand { until: said.until, blocked: said.blocked as u32, _pad: 0 };
    for said in said {
        if let Whom::Group(name) = &said.whom
            && let Some(gid) = users.gid_of(name)
        {
            all.extend(users.members(gid).into_iter().map(|uid| (Account::user(uid), hand(said))));
        }
    }
    for said in said {
        let account = match &said.whom {
            Whom::User(name) => users.uid_of(name).map(Account::user),
            Whom::Account(account) => Some(*account),
            Whom::Group(_) | Whom::Cgroup(_) => None,
        };
        all.extend(account.map(|account| (account, hand(said))));
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(account, _)| *account);
    all
}

impl<'a> Compiler<'a> {
    pub(super) fn config(&self) -> &'a Config {
        self.config
    }

    pub(super) fn members(&self, gid: u32) -> Vec<u32> {
        self.users.members(gid)
    }

    /// The rule that gives a plan, with what everyone on it shares.
    fn rule(&mut self, plan: PlanRef, origin: Origin) -> Rule {
        Rule { chain: self.chain(plan, &[]), ..rule(self.config, plan, origin, self.moment) }
    }

    /// Enters the totals of plans.
    fn totals(&mut self) {
        // A plan that a rule made of another one shares that one's purse.
        let own = |plan: &Plan| plan.base.is_none() && plan.total.is_set();
        for (number, plan) in self.config.plans.iter().enumerate().filter(|(_, plan)| own(plan)) {
            let purse = purse(Level::Plan, plan_scope(&plan.name), plan.total, None);
            self.totals.insert(number, self.ledger.purse(purse, plan.name.clone()));
        }
    }

    /// Number of the purse of a plan's total: its own, or that of the plan it was made from.
    fn total(&self, plan: PlanRef) -> Option<u32> {
        let PlanRef::Plan(number) = plan else { return None };
        let base = self.config.plans[number].base;
        self.totals.get(&number).or_else(|| self.totals.get(&base?)).copied()
    }

    /// Number of the chain of a plan's total and of groups' purses.
    fn chain(&mut self, plan: PlanRef, groups: &[u32]) -> u16 {
        let purses: Vec<u32> = self.total(plan).into_iter().chain(groups.iter().copied()).collect();
        let number = self.ledger.chain_of(&purses);
        u16::try_from(number).unwrap_or_else(|_| {
            let message =
                "there are more than 65,535 combinations of groups and plans: those of some users are not limited";
            self.warnings.push(Problem::warning(message));
            0
        })
    }

    /// Has the members of groups with limits share them.
    fn groups(&mut self) {
        let mut of: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in &self.config.groups {
            let Some(gid) = self.gid(&entry.name, "[group]") else { continue };
            let scope = Account::new(kind::GROUP, gid as u64);
            let purse = purse(Level::Group, scope, entry.quotas, None);
            let number = self.ledger.purse(purse, entry.name.value.to_string());
            self.users.members(gid).into_iter().for_each(|uid| of.entry(uid).or_default().push(number));
        }
        let mut crowded = Vec::new();
        let mut of: Vec<_> = of.into_iter().collect();
        of.sort_unstable();
        for (uid, groups) in of {
            let (default, config) = (self.config.default_plan, self.config);
            let own = self.rules.get(&Account::user(uid)).copied();
            let own = own.unwrap_or_else(|| rule(config, default, Origin::Default, self.moment));
            let plan = match own.plan {
                smtp_common::rule::NO_PLAN => PlanRef::Allow,
                plan => PlanRef::Plan(plan as usize),
            };
            if self.total(plan).is_some() as usize + groups.len() > LINKS {
                crowded.push(uid.to_string());
            }
            let chain = self.chain(plan, &groups);
            self.rules.insert(Account::user(uid), Rule { chain, ..own });
        }
        if !crowded.is_empty() {
            let message = format!(
                "{} in more than {} groups with limits, or in {LINKS} and on a plan with a total: only the first {LINKS} hold; uid {}",
                if crowded.len() == 1 { "a user is".to_owned() } else { format!("{} users are", crowded.len()) },
                LINKS,
                crowded[..crowded.len().min(10)].join(", ")
            );
            self.warnings.push(Problem::warning(message));
        }
    }

    /// Rules for cgroups, then what exceptions say of some, then what was said by hand: the later of two speaks.
    fn cgroups(&mut self, marks: Vec<(Pattern, u32)>, said: &[Said]) -> CgroupRules {
        let mut cgroups = CgroupRules::default();
        for entry in &self.config.rules {
            if let Subject::Cgroup(pattern) = &entry.subject {
                let total = self.total(entry.plan);
                cgroups.rule(self.config, &pattern.value, entry, self.moment, total, &mut self.ledger);
            }
        }
        marks.iter().for_each(|(pattern, number)| cgroups.mark(pattern, *number));
        for Said { whom, blocked, until } in said {
            if let Whom::Cgroup(pattern) = whom {
                cgroups.by_hand(pattern, *blocked, *until);
            }
        }
        cgroups
    }

    fn run(&mut self) {
        let config = self.config;
        for name in &config.deny {
            self.user(name, "[deny] users", Rule::of(Action::Deny, Origin::DenyUser));
        }
        for name in &config.allow.users {
            self.user(name, "[allow] users", Rule::of(Action::Exempt, Origin::AllowUser));
        }
        for entry in &config.rules {
            if let Subject::User(name) = &entry.subject {
                let rule = self.rule(entry.plan, Origin::RuleUser);
                self.user(name, "[[rule]] user", rule);
            }
        }
        for name in &config.allow.groups {
            self.group(name, "[allow] groups", Rule::of(Action::Exempt, Origin::AllowGroup));
        }
        for entry in &config.rules {
            if let Subject::Group(name) = &entry.subject {
                let rule = self.rule(entry.plan, Origin::RuleGroup);
                self.group(name, "[[rule]] group", rule);
            }
        }
        // Last: whichever rule a list manager has by now stays his.
        for name in config.host.list_users.iter().filter(|_| !config.host.count_lists) {
            if let Some(uid) = self.uid(name, "[host] list_users") {
                let default = self.rule(config.default_plan, Origin::Default);
                self.rules.entry(Account::user(uid)).or_insert(default).flags |= rule_flag::NOT_THE_HOSTS;
            }
        }
    }

    fn user(&mut self, name: &Spot<Name>, list: &str, rule: Rule) {
        if let Some(uid) = self.uid(name, list) {
            self.put(uid, rule);
        }
    }

    pub(super) fn uid(&mut self, name: &Spot<Name>, list: &str) -> Option<u32> {
        let uid = self.users.uid_of(&name.value);
        if uid.is_none() {
            self.absent("user", name, list);
        }
        uid
    }

    fn group(&mut self, name: &Spot<Name>, list: &str, rule: Rule) {
        if let Some(gid) = self.gid(name, list) {
            self.users.members(gid).into_iter().for_each(|uid| self.put(uid, rule));
        }
    }

    pub(super) fn gid(&mut self, name: &Spot<Name>, list: &str) -> Option<u32> {
        let gid = self.users.gid_of(&name.value);
        if gid.is_none() {
            self.absent("group", name, list);
        }
        gid
    }

    fn absent(&mut self, what: &str, name: &Spot<Name>, list: &str) {
        let message = format!("{list}: this host has no {what} `{}`; the entry does nothing until it has", name.value);
        self.absent_names.push(format!("{what} `{}`", name.value));
        self.absent.push(Problem::warning(message).at(name.at.clone()));
    }

    fn put(&mut self, uid: u32, rule: Rule) {
        let kept = self.rules.entry(Account::user(uid)).or_insert(rule);
        if rank(&rule) < rank(kept) {
            *kept = rule;
        }
    }
}

#[cfg(test)]
mod tests;
