//! What is measured of the decision: who connects where, under which policy.

use super::texts;
use smtp_common::level::LINKS;

/// Groups with limits that one user is in, beside a plan with a total: as many as an account can spend from.
pub(crate) const GROUPS: u32 = LINKS as u32 - 1;
/// Cgroups within each other, each with a rule: as many as a connection can spend from.
pub(crate) const NESTED: u32 = LINKS as u32;

/// Rules of a large policy, by kind.
pub(crate) const ACCOUNTS: usize = 100_000;
pub(crate) const CGROUPS: usize = 10_000;
pub(crate) const EXCEPTIONS: usize = 10_000;
/// Accounts that connect in turn.
pub(crate) const IN_TURN: usize = 1_000;

/// Users by number only, but for one who is in groups.
const STRANGER: u32 = 60_021;
pub(crate) const ON_TOTAL: u32 = 60_022;
pub(crate) const IN_GROUPS: u32 = 60_023;

/// The rule of its kind that the process meets: one in the middle.
pub(crate) const MIDDLE: usize = 5_000;

/// An agent with a policy of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// One plan, one account with a rule.
    Plain,
    Accounts,
    OneCgroup,
    Cgroups,
    OneException,
    Exceptions,
    /// A plan with a total, groups with limits.
    Purses,
    /// Cgroups with rules as well: all that can be shared at once.
    AllPurses,
}

impl Policy {
    pub(crate) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Accounts,
        Self::OneCgroup,
        Self::Cgroups,
        Self::OneException,
        Self::Exceptions,
        Self::Purses,
        Self::AllPurses,
    ];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// One whom no rule names.
    Stranger,
    /// One with a rule of his own.
    Named,
    /// Many such, one after the other.
    InTurn,
    /// One on a plan with a total.
    OnTotal,
    /// The same in [`GROUPS`] groups with limits.
    InGroups,
}

impl Who {
    /// Their uids, in the order in which they connect.
    pub(crate) fn uids(self) -> Vec<u32> {
        match self {
            Self::Stranger => vec![STRANGER],
            Self::Named => vec![texts::account(MIDDLE)],
            // Apart from one another, so that they do not lie in the kernel's tables in the order they were entered in.
            Self::InTurn => (0..IN_TURN).map(|number| texts::account(number * (ACCOUNTS / IN_TURN))).collect(),
            Self::OnTotal => vec![ON_TOTAL],
            Self::InGroups => vec![IN_GROUPS],
        }
    }
}

/// Where the process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In a cgroup that no rule matches.
    Outside,
    /// In one that a rule matches, two levels below the root.
    Inside,
    /// Eight levels below the root, in the same.
    Deep,
    /// In the innermost of [`NESTED`] ones, each with a rule.
    Nested,
}

/// One thing to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    pub(crate) policy: Policy,
    pub(crate) who: Who,
    pub(crate) place: Place,
    /// Whether the destination is one that an exception speaks of, where there are exceptions.
    pub(crate) excepted: bool,
}

impl Case {
    const fn of(policy: Policy, who: Who, place: Place) -> Self {
        Self { policy, who, place, excepted: false }
    }

    /// What all others are compared with.
    pub(crate) const PLAIN: Self = Self::of(Policy::Plain, Who::Named, Place::Outside);

    /// Everything there is to measure.
    pub(crate) fn all() -> Vec<Self> {
        let sizes = Size::all().into_iter().flat_map(|size| [size.few, size.many]);
        let mut all: Vec<Self> = Vec::new();
        for case in sizes.chain(Part::all().into_iter().map(|part| part.case)).chain([Self::PLAIN]) {
            if !all.contains(&case) {
                all.push(case);
            }
        }
        all
    }
}

/// The same under a small policy and under a large one.
pub(crate) struct Size {
    pub(crate) name: String,
    pub(crate) few: Case,
    pub(crate) many: Case,
}

impl Size {
    pub(crate) fn all() -> Vec<Self> {
        use Policy as P;
        let of = |what: &str, many: Policy, few: Policy, who, place| {
            let count = match many {
                P::Accounts => ACCOUNTS,
                P::Cgroups => CGROUPS,
                _ => EXCEPTIONS,
            };
            let name = format!("{} {what}", super::load::grouped(count));
            Self { name, few: Case::of(few, who, place), many: Case::of(many, who, place) }
        };
        let excepted = |size: Self| {
            let with = |case| Case { excepted: true, ..case };
            Self { few: with(size.few), many: with(size.many), ..size }
        };
        vec![
            of("accounts with rules, one without", P::Accounts, P::Plain, Who::Stranger, Place::Outside),
            of("accounts with rules, one of them", P::Accounts, P::Plain, Who::Named, Place::Outside),
            of("accounts with rules, a thousand of them in turn", P::Accounts, P::Plain, Who::InTurn, Place::Outside),
            of("cgroup rules, in no such cgroup", P::Cgroups, P::OneCgroup, Who::Named, Place::Outside),
            of("cgroup rules, in such a cgroup", P::Cgroups, P::OneCgroup, Who::Named, Place::Inside),
            of("cgroup rules, eight levels deep in one", P::Cgroups, P::OneCgroup, Who::Named, Place::Deep),
            of("exceptions, for others", P::Exceptions, P::OneException, Who::Named, Place::Outside),
            excepted(of("exceptions, for this one", P::Exceptions, P::OneException, Who::Named, Place::Outside)),
        ]
    }
}

/// What one more thing in a policy costs, whatever its size.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) case: Case,
    /// Purses that the connection is charged to.
    pub(crate) purses: u32,
}

impl Part {
    pub(crate) fn all() -> Vec<Self> {
        let of = |name: &str, purses, case| Self { name: name.to_owned(), case, purses };
        let case = |policy, who, place| Case::of(policy, who, place);
        use Policy as P;
        vec![
            of("no rule of its own", 0, case(P::Plain, Who::Stranger, Place::Outside)),
            of("a cgroup rule, in no such cgroup", 0, Self::LOOK),
            of("in such a cgroup", 1, case(P::OneCgroup, Who::Named, Place::Inside)),
            of("eight levels deep in one", 1, case(P::OneCgroup, Who::Named, Place::Deep)),
            of("an exception, for others", 0, case(P::OneException, Who::Named, Place::Outside)),
            of(
                "an exception that allows this one",
                0,
                Case { excepted: true, ..case(P::OneException, Who::Named, Place::Outside) },
            ),
            of("a plan with a total", 1, Self::TOTAL),
            of(&format!("the same, and {GROUPS} groups"), 1 + GROUPS, Self::GROUPS),
            of(&format!("the same, and {NESTED} nested cgroups"), 1 + GROUPS + NESTED, Self::EVERYTHING),
        ]
    }

    /// What the look for a cgroup's rule costs who is in none.
    pub(crate) const LOOK: Case = Case::of(Policy::OneCgroup, Who::Named, Place::Outside);
    pub(crate) const TOTAL: Case = Case::of(Policy::Purses, Who::OnTotal, Place::Outside);
    pub(crate) const GROUPS: Case = Case::of(Policy::Purses, Who::InGroups, Place::Outside);
    pub(crate) const EVERYTHING: Case = Case::of(Policy::AllPurses, Who::InGroups, Place::Nested);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_there_once() {
        let cases = Case::all();
        for case in &cases {
            assert_eq!(cases.iter().filter(|other| *other == case).count(), 1, "{case:?}");
        }
        assert!(cases.contains(&Case::PLAIN) && cases.contains(&Part::EVERYTHING));
    }

    #[test]
    fn those_who_connect_in_turn_have_rules_and_are_different() {
        let mut uids = Who::InTurn.uids();
        assert!(uids.iter().all(|uid| (texts::account(0)..texts::account(ACCOUNTS)).contains(uid)));
        uids.dedup();
        assert_eq!(uids.len(), IN_TURN);
    }
}
