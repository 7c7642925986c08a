//! The agents, each with a policy of its own, and the places in their cgroups.

use super::{
    cases::{ACCOUNTS, CGROUPS, Case, EXCEPTIONS, GROUPS, IN_GROUPS, MIDDLE, NESTED, ON_TOTAL, Place, Policy},
    load::write_files,
    texts::{self, Form},
};
use crate::{
    bpf::{Runs, program_of_link},
    connect::wire::Unreachable,
    place::{Home, become_user, enter_cgroup},
};
use smtp_tests::{Agent, Cgroup, Etc, Must};
use std::{net::SocketAddrV4, os::fd::OwnedFd};

/// Limits of the hour and of the day that are never reached.
const LIMITS: &str = "per_hour = 1_000_000_000\nper_day = 1_000_000_000\n";

/// Levels below the root at which [`Place::Deep`] is.
const DEPTH: usize = 8;

pub(crate) struct World {
    /// First, so that we are out of the cgroups before they are removed, which kills who is in them.
    _home: Home,
    gates: Vec<Gate>,
    excepted: Unreachable,
    ordinary: Unreachable,
}

struct Gate {
    program: OwnedFd,
    /// Cgroups within each other: the agent's own has the first.
    inner: Vec<Cgroup>,
    agent: Agent,
    /// Must outlive the agent.
    _etc: Option<Etc>,
}

impl World {
    /// Everything but the pinning to one processor, so that the agents may run on another.
    pub(crate) fn new() -> Self {
        let home = Home::here();
        // Others may measure at the same time. Every second address has an exception.
        let numbers = MIDDLE..MIDDLE + 20;
        let excepted = Unreachable::one_of(numbers.clone().map(texts::destination));
        let ordinary = Unreachable::one_of(numbers.map(texts::no_destination));
        let gates = Policy::ALL.map(|policy| Gate::start(policy, &excepted)).into();
        Self { _home: home, gates, excepted, ordinary }
    }

    fn gate(&self, policy: Policy) -> &Gate {
        &self.gates[policy as usize]
    }

    /// Runs `measure` in the case's place, as its user where there is one, and comes back.
    pub(crate) fn visit<T>(&self, case: Case, measure: impl FnOnce() -> T) -> T {
        let gate = self.gate(case.policy);
        let cgroup = match case.place {
            Place::Outside => gate.agent.cgroup(),
            Place::Inside => &gate.inner[0],
            Place::Deep | Place::Nested => gate.inner.last().must("this policy has no cgroups of its own"),
        };
        enter_cgroup(cgroup.path());
        // Several take turns by themselves.
        if let [uid] = case.who.uids()[..] {
            become_user(uid);
        }
        let result = measure();
        become_user(0);
        result
    }

    /// Where no SYN can go.
    pub(crate) fn no_route(&self, case: Case) -> SocketAddrV4 {
        let to = if case.excepted { &self.excepted } else { &self.ordinary };
        SocketAddrV4::new(to.address(), 25)
    }

    /// The kernel's own timing of the program that the case meets.
    pub(crate) fn runs(&self, case: Case) -> Runs {
        Runs::of(&self.gate(case.policy).program)
    }

    /// Connections that the agents themselves have counted.
    pub(crate) fn counted(&self) -> u64 {
        let of = |gate: &Gate| {
            gate.agent.metrics().series("smtp_connections_total").iter().map(|series| series.value).sum::<f64>()
        };
        self.gates.iter().map(of).sum::<f64>() as u64
    }
}

impl Gate {
    fn start(policy: Policy, excepted: &Unreachable) -> Self {
        let etc = matches!(policy, Policy::Purses | Policy::AllPurses).then(with_groups);
        let mut builder = Agent::builder().config(|all| {
            // To follow conversations costs the same under every policy, and more than what is to be seen.
            all.merge("mode = 'enforce'\n[smtp]\nmessages = false\n[default]\nplan = 'ample'")
                .merge(&format!("[plan.ample]\n{LIMITS}"))
        });
        if let Some(etc) = &etc {
            builder = builder.etc(etc);
        }
        let mut agent = builder.stopped();
        let base = agent.cgroup().name();
        // Everywhere but where there are many, one account has a rule.
        let named = texts::accounts(MIDDLE + 1, MIDDLE + 1).pop().unwrap_or_default();
        let files = match policy {
            Policy::Plain => vec![named],
            Policy::Accounts => texts::accounts(ACCOUNTS, 1),
            Policy::OneCgroup => vec![named, one_cgroup(&base)],
            Policy::Cgroups => vec![named, texts::cgroups(CGROUPS, &base, Form::Exact)],
            Policy::OneException => vec![named, format!("[[rule]]\nto = '{}'\nplan = 'allow'", excepted.address())],
            Policy::Exceptions => vec![named, texts::exceptions(EXCEPTIONS)],
            Policy::Purses => vec![purses()],
            Policy::AllPurses => vec![purses(), nested_cgroups(&base)],
        };
        write_files(&agent.config_path().with_file_name("conf.d"), &files);
        let names: Vec<String> = match policy {
            Policy::OneCgroup | Policy::Cgroups => {
                let below = (3..=DEPTH).map(|level| format!("level-{level}"));
                std::iter::once(texts::cgroup(MIDDLE)).chain(below).collect()
            }
            Policy::AllPurses => (0..NESTED).map(nested).collect(),
            _ => Vec::new(),
        };
        let mut inner: Vec<Cgroup> = Vec::new();
        for name in names {
            let made = inner.last().unwrap_or_else(|| agent.cgroup()).child(&name);
            inner.push(made);
        }
        agent.start();
        Self { program: program_of_link(&agent.pins_dir().join("link_connect4")), inner, agent, _etc: etc }
    }
}

/// A host where one user is in the groups.
fn with_groups() -> Etc {
    let etc = Etc::with_users(&[("bench", IN_GROUPS, IN_GROUPS)]);
    for number in 0..GROUPS {
        etc.append("group", &format!("{}:x:{}:bench", group(number), IN_GROUPS + 1 + number));
    }
    etc
}

fn group(number: u32) -> String {
    format!("bench-{number}")
}

fn nested(level: u32) -> String {
    format!("nested-{level}")
}

fn one_cgroup(base: &str) -> String {
    format!("[[rule]]\ncgroup = \"{base}/{}\"\n{LIMITS}", texts::cgroup(MIDDLE))
}

/// A plan with a total for those on it, and groups with limits.
fn purses() -> String {
    let mut text = format!("[plan.shared]\n{LIMITS}[plan.shared.total]\n{LIMITS}");
    for uid in [ON_TOTAL, IN_GROUPS] {
        text += &format!("[[rule]]\nuser = {uid}\nplan = \"shared\"\n");
    }
    for number in 0..GROUPS {
        text += &format!("[group.{}]\n{LIMITS}", group(number));
    }
    text
}

/// Cgroups within each other, each with a rule.
fn nested_cgroups(base: &str) -> String {
    let (mut path, mut text) = (base.to_owned(), String::new());
    for level in 0..NESTED {
        path = format!("{path}/{}", nested(level));
        text += &format!("[[rule]]\ncgroup = \"{path}\"\n{LIMITS}");
    }
    text
}
