//! Names become uids, plans become limits, and every account gets the one rule that holds for it.

use std::collections::HashMap;

use smtp_common::{
    connection::Account,
    rule::{Action, Limit, Origin, Policy, Rule},
    window::UNLIMITED,
};

use crate::{
    accounts::{
        database::Database,
        subuid::{self, Prefix},
    },
    config::{Config, Mode, Name, PlanRef, Problem, Problems, Spot, Subject},
};

/// A policy ready for the kernel.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub policy: Policy,
    pub ports: Vec<u16>,
    pub rules: Vec<(Account, Rule)>,
    pub subuids: Vec<Prefix>,
    /// What did not stop the policy but its author should know.
    pub warnings: Problems,
    /// Names in the configuration that this host does not have, each with its place.
    pub absent: Problems,
    /// The same in short: "user `exim`".
    pub absent_names: Vec<String>,
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

struct Compiler<'a> {
    config: &'a Config,
    users: &'a Database,
    rules: HashMap<Account, Rule>,
    warnings: Problems,
    absent: Problems,
    absent_names: Vec<String>,
}

/// Compiles a configuration for the users of a host; `subuid` is the text of its /etc/subuid.
pub fn compile(config: &Config, users: &Database, subuid: &str) -> Compiled {
    let mut compiler = Compiler {
        config,
        users,
        rules: HashMap::new(),
        warnings: Problems::default(),
        absent: Problems::default(),
        absent_names: Vec::new(),
    };
    compiler.run();
    let Compiler { rules, mut warnings, absent, absent_names, .. } = compiler;

    let (subuids, broken) = subuid::parse(subuid, users);
    broken.into_iter().for_each(|message| warnings.push(Problem::warning(message)));
    let first = subuids.iter().map(|p| p.first).min();
    let last = subuids.iter().map(|p| p.first | u32::MAX.checked_shr(p.bits).unwrap_or(0)).max();

    let policy = Policy {
        serial: 0,
        enforce: (config.mode == Mode::Enforce) as u32,
        strict: config.host.strict as u32,
        host_hour: config.host.per_hour.unwrap_or(UNLIMITED),
        host_day: config.host.per_day.unwrap_or(UNLIMITED),
        subuid_first: first.unwrap_or(1),
        subuid_last: last.unwrap_or(0),
        event_budget: config.events.per_second,
        _pad: 0,
        default: rule(config, config.default_plan, Origin::Default),
        containers: rule(config, config.containers_plan, Origin::Containers),
        kernel_threads: rule(config, config.default_plan, Origin::KernelThreads),
    };
    let mut rules: Vec<_> = rules.into_iter().collect();
    rules.sort_by_key(|(account, _)| *account);
    Compiled { policy, ports: config.ports.clone(), rules, subuids, warnings, absent, absent_names }
}

impl Compiler<'_> {
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
                self.user(name, "[[rule]] user", rule(config, entry.plan, Origin::RuleUser));
            }
        }
        for name in &config.allow.groups {
            self.group(name, "[allow] groups", Rule::of(Action::Exempt, Origin::AllowGroup));
        }
        for entry in &config.rules {
            if let Subject::Group(name) = &entry.subject {
                self.group(name, "[[rule]] group", rule(config, entry.plan, Origin::RuleGroup));
            }
        }
    }

    fn user(&mut self, name: &Spot<Name>, list: &str, rule: Rule) {
        match &name.value {
            Name::Id(uid) => self.put(*uid, rule),
            Name::Text(text) => match self.users.uid(text) {
                Some(uid) => self.put(uid, rule),
                None => self.absent("user", name, list),
            },
        }
    }

    fn group(&mut self, name: &Spot<Name>, list: &str, rule: Rule) {
        let gid = match &name.value {
            Name::Id(gid) => Some(*gid),
            Name::Text(text) => self.users.gid(text),
        };
        match gid {
            Some(gid) => self.users.members(gid).into_iter().for_each(|uid| self.put(uid, rule)),
            None => self.absent("group", name, list),
        }
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

fn rule(config: &Config, plan: PlanRef, origin: Origin) -> Rule {
    match plan {
        PlanRef::Deny => Rule::of(Action::Closed, origin),
        PlanRef::Allow => Rule::of(Action::Limited, origin),
        PlanRef::Plan(index) => {
            let plan = &config.plans[index];
            let limit = |n: Option<u32>| n.map_or(Limit::NONE, |n| Limit::with_soft_percent(n, plan.soft_percent));
            Rule {
                on_soft: plan.on_soft as u8,
                plan: index as u32,
                hour: limit(plan.per_hour),
                day: limit(plan.per_day),
                ..Rule::of(Action::Limited, origin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const USERS: [(&str, u32, u32); 4] = [("root", 0, 0), ("ann", 1, 10), ("bob", 2, 20), ("eve", 3, 20)];
    const GROUPS: [(&str, u32, &[&str]); 2] = [("staff", 10, &["bob"]), ("sales", 20, &[])];

    fn compiled(text: &str) -> Compiled {
        let loaded = config::parse_str("test", text).unwrap_or_else(|p| panic!("{}", p.render(false)));
        compile(&loaded.config, &Database::of(&USERS, &GROUPS), "ann:100000:65536\n")
    }

    fn origin(compiled: &Compiled, uid: u32) -> Option<u8> {
        compiled.rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, rule)| rule.origin)
    }

    #[test]
    fn who_is_named_beats_who_is_a_member_and_refusing_beats_permitting() {
        let base = "[plan.bulk]\nper_hour = 9\n";
        let cases = [
            ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[deny]\nusers=[\"eve\"]", 3, Origin::DenyUser),
            ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[[rule]]\nuser=\"eve\"\nplan=\"bulk\"", 3, Origin::RuleUser),
            ("[allow]\nusers=[\"eve\"]\n[[rule]]\nuser=\"eve\"\nplan=\"bulk\"", 3, Origin::AllowUser),
            ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[[rule]]\ngroup=\"sales\"\nplan=\"bulk\"", 3, Origin::AllowGroup),
            ("[[rule]]\ngroup=\"sales\"\nplan=\"bulk\"", 2, Origin::RuleGroup),
            ("[allow]\nusers=[]\ngroups=[\"staff\"]", 1, Origin::AllowGroup),
            ("[allow]\nusers=[]\ngroups=[\"staff\"]", 2, Origin::AllowGroup),
            // By number and by name: the same user.
            ("[allow]\nusers=[\"root\"]\n[deny]\nusers=[\"0\"]", 0, Origin::DenyUser),
        ];
        for (text, uid, expected) in cases {
            assert_eq!(origin(&compiled(&format!("{base}{text}")), uid), Some(expected as u8), "{text}");
        }
    }

    #[test]
    fn of_two_group_rules_the_earlier_holds() {
        let text = "[plan.a]\nper_hour=1\n[plan.b]\nper_hour=2\n[[rule]]\ngroup=\"staff\"\nplan=\"b\"\n[[rule]]\ngroup=\"sales\"\nplan=\"a\"";
        let rules = compiled(text).rules;
        let limit = |uid| rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, r)| r.hour.limit);
        assert_eq!(limit(2), Some(2), "bob is in both");
        assert_eq!(limit(3), Some(1));
    }

    #[test]
    fn plans_become_limits_and_absent_names_are_counted_and_placed() {
        let got = compiled(
            "[default]\nplan=\"deny\"\n[containers]\nplan=\"c\"\n[plan.c]\nper_day=8\nsoft_percent=150\n[allow]\nusers=[\"ghost\"]\n[deny]\nusers=[]",
        );
        assert_eq!(got.policy.default.action, Action::Closed as u8);
        assert_eq!(got.policy.containers.day, Limit { limit: 8, band: 4 });
        assert_eq!(got.policy.containers.hour, Limit::NONE);
        assert_eq!(got.absent.warnings(), 1);
        let place = got.absent.iter().find_map(|w| w.place.clone()).expect("the name's place");
        assert_eq!((place.line(), place.column()), (9, 8));
    }

    #[test]
    fn the_range_of_subordinate_uids_spans_all_prefixes() {
        let policy = compiled("").policy;
        assert_eq!((policy.subuid_first, policy.subuid_last), (100_000, 165_535));
        let none = config::parse_str("test", "").map(|l| compile(&l.config, &Database::default(), "").policy);
        assert!(none.is_ok_and(|p| p.subuid_first > p.subuid_last));
    }
}
